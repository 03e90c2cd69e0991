/* What the compiled form is given: see agents/plastic/ops/cpu/form.py, which fills this in. */
#include <stdint.h>

/* Of `Problem` and of what its fields mean. library.py has the same number and loads no build of
   another: raise both with any change of what is here. */
#define PROBLEM_VERSION 1

/* Layers, in the order of the arrays below. The readout's matrices are stored transposed. */
enum { ENCODER, CELL_INPUT, CELL_HIDDEN, READOUT, LAYERS };

/* All pointers are to contiguous arrays of float or double (by the function's suffix), batch first.
   A null pointer stands for an array that is not there. */
typedef struct {
  int64_t batch, time, input, hidden, gates, readout;
  int64_t has_encoder, gradient_rule, modulation, segment;
  double base_eta, base_decay, max_norm;

  /* slow parameters, by layer */
  const void *weight[LAYERS], *bias[LAYERS], *alpha[LAYERS], *bias_alpha[LAYERS];
  const void *omega;

  /* the sequence and the state before it */
  const void *x;             /* [B, T, input] */
  const uint8_t *starts;     /* [B, T] or null */
  const void *h0, *c0;       /* [B, hidden] */
  const void *fast0[LAYERS], *fast_bias0[LAYERS];

  /* what the forward pass writes; the backward pass reads it */
  void *output;              /* [B, T, readout] */
  void *encoded;             /* [B, T, hidden]; is x without an encoder */
  void *activity;            /* [B, T, gates * hidden] */
  void *h, *c;               /* [B, T, hidden] */
  void *post_q, *post_e;     /* gradient rule: posts of the cell [B, T, gates * hidden] and of the
                                encoder [B, T, hidden] */
  void *eta, *decay, *norm2; /* [B, T] */
  void *fast1[LAYERS], *fast_bias1[LAYERS]; /* state after the last write */

  /* gradients that come in; null for zero */
  const void *grad_h1, *grad_c1;
  const void *grad_fast1[LAYERS], *grad_fast_bias1[LAYERS];

  /* gradients that go out */
  void *grad_o;              /* [B, T, readout]; holds the gradient of the output that comes in */
  void *grad_q, *grad_a;     /* pre-activations of cell and encoder */
  void *grad_u, *grad_gh;    /* gradient rule: adjoints of M_i g_q and of g_h, [B, T, hidden] */
  void *grad_x;              /* [B, T, input] */
  void *grad_h0, *grad_c0;   /* [B, hidden] */
  void *grad_fast0[LAYERS], *grad_fast_bias0[LAYERS]; /* null if nobody wants them */
  void *grad_alpha[LAYERS], *grad_bias_alpha[LAYERS], *grad_omega; /* sums: added to */
} Problem;
