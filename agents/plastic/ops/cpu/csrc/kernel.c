/* The compiled form of a plastic network: one sample at a time, so that its fast weights stay in the
   processor's cache for the whole sequence. The equations, and the derivation of the backward pass,
   are in docs/fast-engine.md; names follow it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* Read before anything is called: see library.py. */
const int64_t plastic_problem_version = PROBLEM_VERSION;
const int64_t plastic_problem_size = sizeof(Problem);

#define REAL float
#define NAME(name) name##_f32
#define EXP expf
#define TANH tanhf
#define SQRT sqrtf
#include "kernel.inc"
#undef REAL
#undef NAME
#undef EXP
#undef TANH
#undef SQRT

#define REAL double
#define NAME(name) name##_f64
#define EXP exp
#define TANH tanh
#define SQRT sqrt
#include "kernel.inc"
