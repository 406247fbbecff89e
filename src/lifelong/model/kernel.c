/* Reading tokens with a causal transformer on a CPU: one call reads any number of tokens of any texts.

   Every sum is taken in one order, whatever is computed beside it: a token's states are the same to the bit alone and
   in a batch, in a prompt and after it. That, and that nothing is called between products, is why this exists.

   Matrices (outputs x inputs) are packed in panels of 16 outputs, an input's 16 weights side by side: fp32, or bf16,
   whose 16 bits are fp32's upper half (the first eight outputs are the lower halves of eight words, the others the
   upper ones). Sums are fp32.

   Compiled when it is first needed, by lifelong/model/kernel.py, whose structures mirror these. */

#include <stdint.h>
#include <string.h>

#define PANEL 16
#define BLOCK 384 /* inputs that are multiplied before the next rows are */
#define WORTH 400000 /* products from which on a second thread gains more than it costs to wait for it */
#define MOST 6 /* rows of a tile: 6 x 16 sums fill the registers of AVX2 */

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t i8 __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct {
  const void *weights;
  int64_t outputs; /* a multiple of PANEL: filled up with zeros */
  int64_t inputs;
  int64_t bytes; /* of a weight: 4 fp32, 2 bf16 */
} Matrix;

typedef struct {
  Matrix down, up; /* up.inputs = down.outputs; up.outputs = 0: none */
} Branch;

typedef struct {
  Matrix product[4];         /* queries, keys and values; attention's output; gate and up; down */
  const Branch *branches[4]; /* what each expert adds to it; NULL: none does */
  const float *before, *after;       /* weights of the norms */
  const float *query_norm, *key_norm; /* of every head; NULL: none */
  float *keys, *values;              /* (rows, kv_heads, length, head_dim) */
} Layer;

typedef struct {
  int64_t layers, experts, width, queries, kv_heads, head_dim, length, threads;
  float eps, scale; /* of the norms; of attention's scores */
  const float *embeddings, *cosines, *sines, *norm; /* tables (length, head_dim) */
  Matrix head;
  const Layer *layer;
} Model;

/* Working space for n tokens, of which `wanted` want logits; see kernel_decoding.py for the sizes. */
typedef struct {
  float *x, *normed, *wide, *heads; /* (n, width) twice, (n, outputs of the widest layer), (n, queries·head_dim) */
  float *low;                       /* (n, outputs of the widest branch's down) */
  float *scores;                    /* (threads, length + 8) */
} Space;

static inline __attribute__((always_inline)) float sum8(v8 x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

/* The 16 weights of one input. */
static inline __attribute__((always_inline)) void load(const char *at, int64_t bytes, v8 *low, v8 *high) {
  if (bytes == 4) {
    *low = *(const v8 *)at;
    *high = *(const v8 *)(at + 32);
  } else {
    const i8 words = *(const i8 *)at;
    *low = (v8)(words << 16);
    *high = (v8)(words & -65536);
  }
}

/* Sums of M rows with P panels over the inputs from `start` to `end`, on top of what is in y unless `fresh`.
   Constants once inlined: the sums stay in registers. */
static inline __attribute__((always_inline)) void tile(const int M, const int P, const int64_t bytes, const Matrix *w,
                                                       int64_t panel, int64_t start, int64_t end, const float *x,
                                                       int64_t x_step, float *y, int64_t y_step, int fresh) {
  const int64_t step = w->inputs * PANEL * bytes;
  const char *at = (const char *)w->weights + panel * step + start * PANEL * bytes;
  v8 sums[MOST][4][2];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        sums[m][p][half] = (v8){0};
        if (!fresh) sums[m][p][half] = *(v8 *)(y + m * y_step + (panel + p) * PANEL + half * 8);
      }
  for (int64_t k = start; k < end; k++, at += PANEL * bytes) {
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
      v8 low, high;
      load(at + p * step, bytes, &low, &high);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) {
        const float one = x[m * x_step + k];
        sums[m][p][0] += low * one;
        sums[m][p][1] += high * one;
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; m++)
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++)
        *(v8 *)(y + m * y_step + (panel + p) * PANEL + half * 8) = sums[m][p][half];
}

#define PLACE w, panel, start, end, x, x_step, y, y_step, fresh
#define TILES(bytes)                                                                                            \
  static void tiles_##bytes(int M, int P, const Matrix *w, int64_t panel, int64_t start, int64_t end,           \
                            const float *x, int64_t x_step, float *y, int64_t y_step, int fresh) {              \
    switch (M * 8 + P) {                                                                                        \
      case 8 + 4: tile(1, 4, bytes, PLACE); break;                                                              \
      case 8 + 2: tile(1, 2, bytes, PLACE); break;                                                              \
      case 8 + 1: tile(1, 1, bytes, PLACE); break;                                                              \
      case 16 + 2: tile(2, 2, bytes, PLACE); break;                                                             \
      case 16 + 1: tile(2, 1, bytes, PLACE); break;                                                             \
      case 24 + 2: tile(3, 2, bytes, PLACE); break;                                                             \
      case 24 + 1: tile(3, 1, bytes, PLACE); break;                                                             \
      case 32 + 1: tile(4, 1, bytes, PLACE); break;                                                             \
      case 40 + 1: tile(5, 1, bytes, PLACE); break;                                                             \
      default: tile(6, 1, bytes, PLACE);                                                                        \
    }                                                                                                           \
  }
TILES(4)
TILES(2)

/* y (n, outputs) = x (n, inputs) · wᵀ, on top of what is in y unless `fresh`. */
static void product(const Matrix *w, const float *x, int64_t x_step, int64_t n, float *y, int64_t y_step, int fresh,
                    int64_t threads) {
  const int64_t panels = w->outputs / PANEL, inputs = w->inputs;
  /* With few rows, several panels at once: enough sums that none waits for itself. */
  const int at_once = n == 1 ? 4 : n <= 3 ? 2 : 1;
  /* With many, as many inputs at a time as the nearest cache holds of a panel and six rows. */
  const int64_t block = n > 2 * MOST ? BLOCK : inputs;
  const int64_t parts = (panels + at_once - 1) / at_once;
#pragma omp parallel num_threads(threads) if (threads > 1 && n * w->outputs * inputs > WORTH)
  for (int64_t start = 0; start < inputs; start += block) {
#pragma omp for schedule(static) nowait /* the same parts for each thread every time */
    for (int64_t part = 0; part < parts; part++) {
      const int64_t end = start + block < inputs ? start + block : inputs;
      for (int64_t row = 0; row < n; row += MOST) {
        const int M = n - row < MOST ? (int)(n - row) : MOST;
        int64_t panel = part * at_once;
        const int64_t behind = panel + at_once < panels ? panel + at_once : panels;
        while (panel < behind) {
          const int P = behind - panel >= at_once ? at_once : behind - panel >= 2 && M <= 3 ? 2 : 1;
          const float *from = x + row * x_step;
          float *to = y + row * y_step;
          const int first = fresh && start == 0;
          if (w->bytes == 4) tiles_4(M, P, w, panel, start, end, from, x_step, to, y_step, first);
          else tiles_2(M, P, w, panel, start, end, from, x_step, to, y_step, first);
          panel += P;
        }
      }
    }
  }
}

enum { QKV, OUT, GATE_UP, DOWN };

/* A product of a layer, with what each expert's branch adds to its tokens. */
static void with_branches(const Model *model, const Layer *layer, int which, const float *x, int64_t x_step, int64_t n,
                          float *y, int64_t y_step, int fresh, float *low) {
  const int64_t each = n / model->experts;
  product(layer->product + which, x, x_step, n, y, y_step, fresh, model->threads);
  if (!layer->branches[which]) return;
  for (int64_t expert = 0; expert < model->experts; expert++) {
    const Branch *branch = layer->branches[which] + expert;
    if (!branch->up.outputs) continue;
    product(&branch->down, x + expert * each * x_step, x_step, each, low, branch->down.outputs, 1, model->threads);
    product(&branch->up, low, branch->down.outputs, each, y + expert * each * y_step, y_step, 0, model->threads);
  }
}

/* Root-mean-square normalisation of `size` numbers, a multiple of 8. */
static void normalise(const float *x, const float *weight, float *y, int64_t size, float eps) {
  v8 squares = {0};
  for (int64_t i = 0; i < size; i += 8) squares += *(const v8 *)(x + i) * *(const v8 *)(x + i);
  const float factor = 1.0f / __builtin_sqrtf(sum8(squares) / size + eps);
  for (int64_t i = 0; i < size; i += 8) *(v8 *)(y + i) = *(const v8 *)(x + i) * factor * *(const v8 *)(weight + i);
}

static inline __attribute__((always_inline)) v8 pick(i8 which, v8 yes, v8 no) {
  return (v8)((which & (i8)yes) | (~which & (i8)no));
}

/* eˣ to 1e-7 of itself: 2ⁿ·eʳ with |r| <= ln 2 / 2, and Taylor's polynomial of eʳ. */
static inline __attribute__((always_inline)) v8 exponential(v8 x) {
  const v8 least = (v8){0} - 87.0f, most = (v8){0} + 88.0f;
  x = pick(x > least, x, least);
  x = pick(x < most, x, most);
  const v8 shifted = x * 1.44269504f + 12582912.0f; /* 1.5·2²³: what is behind the point is rounded away */
  const v8 n = shifted - 12582912.0f;
  const v8 r = x - n * 0.693359375f + n * 2.12194440e-4f;
  v8 sum = r * (1.0f / 5040) + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  return sum * (v8)((__builtin_convertvector(n, i8) + 127) << 23);
}

/* Rotary positions, in place: the halves of a head are real and imaginary parts. */
static void rotate(float *x, const float *cosines, const float *sines, int64_t size) {
  const int64_t half = size / 2;
  for (int64_t i = 0; i < half; i += 8) {
    const v8 a = *(v8 *)(x + i), b = *(v8 *)(x + half + i);
    const v8 c = *(const v8 *)(cosines + i), s = *(const v8 *)(sines + i);
    *(v8 *)(x + i) = a * c - b * s;
    *(v8 *)(x + half + i) = b * c + a * s;
  }
}

#define MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)

/* Scores of eight keys. The eight sums of each are added crosswise, all eight keys at once. */
static inline __attribute__((always_inline)) v8 scores_of_eight(const float *q, const float *keys, int64_t size) {
  v8 sums[8] = {{0}};
  for (int64_t i = 0; i < size; i += 8) {
    const v8 part = *(const v8 *)(q + i);
#pragma GCC unroll 8
    for (int t = 0; t < 8; t++) sums[t] += part * *(const v8 *)(keys + t * size + i);
  }
#pragma GCC unroll 4
  for (int t = 0; t < 4; t++)
    sums[t] = MIX(sums[t], sums[t + 4], 0, 1, 2, 3, 8, 9, 10, 11) + MIX(sums[t], sums[t + 4], 4, 5, 6, 7, 12, 13, 14, 15);
#pragma GCC unroll 2
  for (int t = 0; t < 2; t++)
    sums[t] = MIX(sums[t], sums[t + 2], 0, 1, 8, 9, 4, 5, 12, 13) + MIX(sums[t], sums[t + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  return MIX(sums[0], sums[1], 0, 8, 2, 10, 4, 12, 6, 14) + MIX(sums[0], sums[1], 1, 9, 3, 11, 5, 13, 7, 15);
}

/* W·8 numbers of the weighted sum of `count` values. */
static inline __attribute__((always_inline)) void weigh(const int W, const float *values, const float *weights,
                                                        int64_t count, int64_t size, float factor, float *y) {
  v8 sums[8] = {{0}};
  for (int64_t t = 0; t < count; t++) {
#pragma GCC unroll 8
    for (int i = 0; i < W; i++) sums[i] += *(const v8 *)(values + t * size + i * 8) * weights[t];
  }
#pragma GCC unroll 8
  for (int i = 0; i < W; i++) *(v8 *)(y + i * 8) = sums[i] * factor;
}

/* One head of one token: y = softmax(q·keysᵀ)·values over `count` times. Up to seven keys behind are read, not used. */
static void attend(const float *q, const float *keys, const float *values, int64_t count, int64_t size, float scale,
                   float *scores, float *y) {
  v8 highest = (v8){0} - 3e38f, total = {0};
  for (int64_t t = 0; t < count; t += 8) {
    v8 found = scores_of_eight(q, keys + t * size, size) * scale;
    for (int64_t i = count - t; i < 8; i++) found[i] = -3e38f;
    *(v8 *)(scores + t) = found;
    highest = pick(found > highest, found, highest);
  }
  float most = highest[0];
  for (int i = 1; i < 8; i++) most = highest[i] > most ? highest[i] : most;
  for (int64_t t = 0; t < count; t += 8) {
    v8 part = exponential(*(v8 *)(scores + t) - most);
    for (int64_t i = count - t; i < 8; i++) part[i] = 0;
    *(v8 *)(scores + t) = part;
    total += part;
  }
  const float factor = 1.0f / sum8(total);
  int64_t i = 0;
  for (; i + 64 <= size; i += 64) weigh(8, values + i, scores, count, size, factor, y + i);
  for (; i < size; i += 16) weigh(2, values + i, scores, count, size, factor, y + i);
}

/* Read n tokens: `ids` at `positions` of texts `rows`, each behind those of its text that were read before or stand
   before it here. Of several experts, an equal share of the tokens is each one's, in their order. Of the tokens numbered `wanted` the logits of what follows come into `logits` (wanted, head.outputs).
 */
void read_tokens(const Model *model, const Space *space, int64_t n, const int64_t *ids, const int64_t *rows,
                 const int64_t *positions, int64_t count, const int64_t *wanted, float *logits) {
  const int64_t width = model->width, size = model->head_dim, threads = model->threads;
  const int64_t queries = model->queries, kept = model->kv_heads, group = queries / kept;
  float *x = space->x, *normed = space->normed, *wide = space->wide, *heads = space->heads;
  for (int64_t i = 0; i < n; i++) memcpy(x + i * width, model->embeddings + ids[i] * width, width * sizeof(float));
  for (int64_t number = 0; number < model->layers; number++) {
    const Layer *layer = model->layer + number;
    const int64_t qkv = layer->product[QKV].outputs, both = layer->product[GATE_UP].outputs, hidden = both / 2;
    for (int64_t i = 0; i < n; i++) normalise(x + i * width, layer->before, normed + i * width, width, model->eps);
    with_branches(model, layer, QKV, normed, width, n, wide, qkv, 1, space->low);
    for (int64_t i = 0; i < n; i++) {
      const float *cosines = model->cosines + positions[i] * size, *sines = model->sines + positions[i] * size;
      for (int64_t head = 0; head < queries + kept; head++) {
        float *at = wide + i * qkv + head * size;
        const float *norm = head < queries ? layer->query_norm : layer->key_norm;
        if (norm) normalise(at, norm, at, size, model->eps);
        rotate(at, cosines, sines, size);
      }
      for (int64_t head = 0; head < kept; head++) {
        const int64_t place = ((rows[i] * kept + head) * model->length + positions[i]) * size;
        memcpy(layer->keys + place, wide + i * qkv + (queries + head) * size, size * sizeof(float));
        memcpy(layer->values + place, wide + i * qkv + (queries + kept + head) * size, size * sizeof(float));
      }
    }
#pragma omp parallel num_threads(threads) if (threads > 1 && n * queries * size * (positions[0] + n) > WORTH)
    {
      int64_t thread = 0;
#ifdef _OPENMP
      extern int omp_get_thread_num(void);
      thread = omp_get_thread_num();
#endif
#pragma omp for schedule(static, 1)
      for (int64_t job = 0; job < n * queries; job++) {
        const int64_t i = job / queries, head = job % queries;
        const int64_t place = (rows[i] * kept + head / group) * model->length * size;
        attend(wide + i * qkv + head * size, layer->keys + place, layer->values + place, positions[i] + 1, size,
               model->scale, space->scores + thread * (model->length + 8), heads + (i * queries + head) * size);
      }
    }
    with_branches(model, layer, OUT, heads, queries * size, n, x, width, 0, space->low);
    for (int64_t i = 0; i < n; i++) normalise(x + i * width, layer->after, normed + i * width, width, model->eps);
    with_branches(model, layer, GATE_UP, normed, width, n, wide, both, 1, space->low);
    for (int64_t i = 0; i < n; i++)
      for (int64_t f = 0; f < hidden; f += 8) {
        const v8 gate = *(v8 *)(wide + i * both + f), up = *(v8 *)(wide + i * both + hidden + f);
        *(v8 *)(wide + i * both + f) = gate / (1.0f + exponential(-gate)) * up; /* SwiGLU */
      }
    with_branches(model, layer, DOWN, wide, both, n, x, width, 0, space->low);
  }
  for (int64_t i = 0; i < count; i++)
    normalise(x + wanted[i] * width, model->norm, normed + i * width, width, model->eps);
  product(&model->head, normed, width, count, logits, model->head.outputs, 1, threads);
}
