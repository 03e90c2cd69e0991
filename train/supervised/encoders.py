"""Image encoders of networks: where they are in one, and taking over that of another run."""

from agents import ImageEmbedder
from agents.core import encoder_in
from train.network import Network
from train.runs.run_folder import RunFolder


def image_encoder_of(network: Network) -> ImageEmbedder:
    """Return the part of a network that turns images into embeddings.

    Raises:
        ValueError: If it has none.
    """
    part = network if isinstance(network, ImageEmbedder) else encoder_in(network)
    if not isinstance(part, ImageEmbedder):
        raise ValueError("the network has no image encoder")
    return part


def load_image_encoder(network: Network, folder: RunFolder) -> None:
    """Copy the image encoder of another run's best checkpoint into a network.

    Raises:
        FileNotFoundError: If there is no such run, or it has no checkpoint yet.
        ValueError: If its encoder is of another kind or size, or it has none.
    """
    ours, config = image_encoder_of(network).image_encoder, folder.config()
    other, _ = folder.load_network("best")
    try:
        theirs = image_encoder_of(other).image_encoder
    except ValueError as error:
        raise ValueError(
            f"--encoder-run {folder.path} is a run of {config.task}: it has no image encoder"
        ) from error
    try:
        ours.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"the encoder of {folder.path} does not fit this run's: it has --encoder "
            f"{config.network.encoder} --filters {config.network.filters}, and images of "
            f"{theirs.image_shape[2]} channel(s)"
        ) from error
