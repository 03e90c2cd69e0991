/* The compiled form of the associative memories. Memories are computed in groups, one in each lane of
   a vector, so that every line below is the equation of one memory. The state of a group stays in the
   processor's cache for the whole sequence. Equations, and the derivation of the backward pass, are in
   docs/memories/compiled.md. Vectors are those of GCC and Clang. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

/* Read before anything is called: see library.py. */
const int64_t memory_problem_version = MEMORY_VERSION;
const int64_t memory_problem_size = sizeof(Memory);

#define LOOP(i, n) for (int64_t i = 0; i < (n); i++)
#define VECTOR_BYTES 32

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_f32
#define EXP expf
#define SQRT sqrtf
#define EPSILON 0x1p-23f
#include "memory.inc"
#undef REAL
#undef INTEGER
#undef NAME
#undef EXP
#undef SQRT
#undef EPSILON

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_f64
#define EXP exp
#define SQRT sqrt
#define EPSILON 0x1p-52
#include "memory.inc"
