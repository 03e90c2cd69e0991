/* What the compiled form of the associative memories is given: see agents/memories/cpu/form.py. */
#include <stdint.h>

/* Of `Memory` and of what its fields mean. library.py has the same number and loads no build of
   another: raise both with any change of what is here. */
#define MEMORY_VERSION 1

enum { HEBBIAN, DELTA, MESA };

/* All pointers are to contiguous arrays of float or double (by the function's suffix). A null
   pointer stands for an array that is not there. A memory is a head of a sample. */
typedef struct {
  int64_t batch, time, heads, key, value;
  int64_t kind, unit_keys, gated;
  double largest_write;

  /* [B, T, width]: of all heads keys, then queries, values, write strengths and, if gated, gates */
  const void *x;
  const uint8_t *starts;          /* [B, T] or null */
  const void *keep;               /* [heads], or null if all is kept */
  const void *ridge;              /* mesa: [heads, key] */
  const void *matrix0, *values0;  /* [B, heads, key, value]; mesa: H [.., key, key], and G */

  /* what the forward pass writes; the backward pass reads `made` */
  void *reads;                    /* [B, T, heads * value] */
  void *matrix1, *values1;        /* state after the last step */
  void *made; /* [groups, T, value | key, lanes] or null: changes u; mesa: solutions (H + Λ)⁻¹ q */

  /* gradients that come in; null for zero */
  const void *grad_reads, *grad_matrix1, *grad_values1;

  /* gradients that go out */
  void *grad_x;
  void *grad_keep, *grad_ridge;   /* [B, heads], [B, heads, key]: of each memory by itself */
  void *grad_matrix0, *grad_values0;
} Memory;
