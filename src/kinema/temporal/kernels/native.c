/* Temporal operators on the CPU, each with one read and one write of the activation.
 *
 * An activation is (B, T, S, C): clips, frames, pixels, channels, with the channels contiguous
 * (channels_last). Rows of C values are `ld` values apart, so a slice of channels needs no copy.
 * bf16 values are loaded and stored as bf16 and computed in float.
 *
 * native.py compiles the file on the machine it runs on; the OpenMP symbols are PyTorch's.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef uint16_t bf16;

/* Larger outputs bypass the cache (streaming stores), as in PyTorch's own copies. */
#define STREAM_BYTES (16L << 20)
#define MAX_TAPS 16
/* Channels processed at a time, so that their weights stay in the first-level cache. */
#define PART 512
/* Smaller activations are done before a second thread has started. */
#define SMALL 32768
/* Channels processed at once in adaptive_kernels. */
#define LANES 16
/* With fewer frames than this, threads also divide the channels. */
#define FEW_FRAMES 8

static inline float widen(bf16 v) {
    uint32_t bits = (uint32_t)v << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

/* Round to nearest even; NaN stays NaN. */
static inline bf16 narrow(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bf16)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

static inline float load_f32(const float *p) { return *p; }
static inline void store_f32(float *p, float v) { *p = v; }
static inline float load_b16(const bf16 *p) { return widen(*p); }
static inline void store_b16(bf16 *p, float v) { *p = narrow(v); }

/* Sixteen values at once; row16 returns the number of values of a row that it has processed. */
#ifdef __AVX512F__
static inline __m512 load16_f32(const float *p) { return _mm512_loadu_ps(p); }
static inline void store16_f32(float *p, __m512 v, int stream) {
    if (stream) _mm512_stream_ps(p, v);
    else _mm512_storeu_ps(p, v);
}
static inline __m512 load16_b16(const bf16 *p) {
    __m256i half = _mm256_loadu_si256((const __m256i *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline void store16_b16(bf16 *p, __m512 v, int stream) {
#ifdef __AVX512BF16__
    __m256i half = (__m256i)_mm512_cvtneps_pbh(v);
#else
    __m512i bits = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    up = _mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc00000));
    __m256i half = _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
#endif
    if (stream) _mm256_stream_si256((__m256i *)p, half);
    else _mm256_storeu_si256((__m256i *)p, half);
}
/* The remainder of a row after whole vectors. */
#ifdef __AVX512VL__
static inline __m512 load_some_f32(const float *p, __mmask16 m) {
    return _mm512_maskz_loadu_ps(m, p);
}
static inline void store_some_f32(float *p, __m512 v, __mmask16 m) {
    _mm512_mask_storeu_ps(p, m, v);
}
static inline __m512 load_some_b16(const bf16 *p, __mmask16 m) {
    __m256i half = _mm256_maskz_loadu_epi16(m, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline void store_some_b16(bf16 *p, __m512 v, __mmask16 m) {
    bf16 whole[16];
    store16_b16(whole, v, 0);
    _mm256_mask_storeu_epi16(p, m, _mm256_loadu_si256((const __m256i *)whole));
}
#define TAIL16(SUFFIX)                                                                           \
    if (c < C) {                                                                                 \
        __mmask16 m = (__mmask16)((1u << (C - c)) - 1);                                          \
        __m512 sum = _mm512_mul_ps(load_some_f32(w[0] + c, m), load_some_##SUFFIX(x[0] + c, m)); \
        for (int k = 1; k < n; k++)                                                              \
            sum = _mm512_fmadd_ps(load_some_f32(w[k] + c, m), load_some_##SUFFIX(x[k] + c, m),   \
                                  sum);                                                          \
        store_some_##SUFFIX(o + c, sum, m);                                                      \
        c = C;                                                                                   \
    }
#else
#define TAIL16(SUFFIX)
#endif
#define ROW16(TYPE, SUFFIX)                                                                      \
    static inline long row16_##SUFFIX(TYPE *o, const TYPE *const *x, const float *const *w,      \
                                      int n, long C, int stream) {                               \
        long c = 0;                                                                              \
        for (; c + 16 <= C; c += 16) {                                                           \
            __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(w[0] + c), load16_##SUFFIX(x[0] + c));    \
            for (int k = 1; k < n; k++)                                                          \
                sum = _mm512_fmadd_ps(_mm512_loadu_ps(w[k] + c), load16_##SUFFIX(x[k] + c), sum);\
            store16_##SUFFIX(o + c, sum, stream);                                                \
        }                                                                                        \
        TAIL16(SUFFIX)                                                                           \
        return c;                                                                                \
    }
ROW16(float, f32)
ROW16(bf16, b16)

/* Three taps over all frames of one pixel, so that every value is read once. x and o point to the
 * pixel in frame 0; `xs` and `os` are the distances between frames, in values. */
#define SLIDE16(TYPE, SUFFIX)                                                                    \
    static inline __m512 frame16_##SUFFIX(const TYPE *x, long xs, long t, long T) {              \
        return t < 0 || t >= T ? _mm512_setzero_ps() : load16_##SUFFIX(x + t * xs);              \
    }                                                                                            \
    static inline void slide16_##SUFFIX(TYPE *o, long os, const TYPE *x, long xs, const float *w,\
                                        long T, long C, long before) {                           \
        for (long c = 0; c + 16 <= C; c += 16) {                                                 \
            __m512 w0 = _mm512_loadu_ps(w + c), w1 = _mm512_loadu_ps(w + C + c);                 \
            __m512 w2 = _mm512_loadu_ps(w + 2 * C + c);                                          \
            __m512 x0, x1 = frame16_##SUFFIX(x + c, xs, -before, T);                             \
            __m512 x2 = frame16_##SUFFIX(x + c, xs, 1 - before, T);                              \
            for (long t = 0; t < T; t++) {                                                       \
                x0 = x1;                                                                         \
                x1 = x2;                                                                         \
                x2 = frame16_##SUFFIX(x + c, xs, t + 2 - before, T);                             \
                __m512 sum = _mm512_fmadd_ps(w1, x1, _mm512_mul_ps(w0, x0));                     \
                store16_##SUFFIX(o + t * os + c, _mm512_fmadd_ps(w2, x2, sum), 0);               \
            }                                                                                    \
        }                                                                                        \
    }
SLIDE16(float, f32)
#define slide16_b16(o, os, x, xs, w, T, C, before)
#define SLIDES_f32 1
#define SLIDES_b16 0
static inline void fence(int stream) {
    if (stream) _mm_sfence();
}
#else
#define row16_f32(o, x, w, n, C, stream) 0
#define row16_b16(o, x, w, n, C, stream) 0
#define slide16_f32(o, os, x, xs, w, T, C, before)
#define slide16_b16(o, os, x, xs, w, T, C, before)
#define fence(stream) (void)(stream)
#define SLIDES_f32 0
#define SLIDES_b16 0
#endif

/* Number of pixels whose rows in all neighboring frames fit into the cache of one core. */
static inline long block_of(long channels) {
    long pixels = 16384 / channels;
    return pixels < 1 ? 1 : pixels;
}

/* Streaming stores need whole, aligned vectors. */
static inline int streams(const void *out, long row_bytes, long bytes) {
    return bytes > STREAM_BYTES && row_bytes % 64 == 0 && (uintptr_t)out % 64 == 0;
}

/* out[b,t,s,c] = sum over k of w[b,t,k,c] * x[b,t+k-before,s,c]; frames outside the clip are zero.
 * Weights are float; wb and wt are their strides along B and T, 0 where they are shared. */
#define DEFINE_MIX(NAME, TYPE, SUFFIX)                                                           \
    static inline void NAME##_row(TYPE *restrict o, const TYPE *const *x, const float *const *w, \
                                  int n, long C, int stream) {                                   \
        long done = row16_##SUFFIX(o, x, w, n, C, stream);                                       \
        (void)stream;                                                                            \
        for (long c = done; c < C; c++) {                                                        \
            float sum = w[0][c] * load_##SUFFIX(x[0] + c);                                       \
            for (int k = 1; k < n; k++) sum += w[k][c] * load_##SUFFIX(x[k] + c);                \
            store_##SUFFIX(o + c, sum);                                                          \
        }                                                                                        \
    }                                                                                            \
    void NAME(const TYPE *x, long ld, TYPE *out, const float *w, long wb, long wt, long B,       \
              long T, long S, long C, long K, long before) {                                     \
        long block = block_of(C), blocks = (S + block - 1) / block;                              \
        int stream = streams(out, C * sizeof(TYPE), B * T * S * C * sizeof(TYPE));               \
        _Pragma("omp parallel for collapse(2) schedule(static)")                                 \
        for (long b = 0; b < B; b++)                                                             \
            for (long i = 0; i < blocks; i++) {                                                  \
                long start = i * block, stop = start + block < S ? start + block : S;            \
                if (SLIDES_##SUFFIX && !stream && !wt && K == 3 && C % 16 == 0) {                \
                    for (long s = start; s < stop; s++)                                          \
                        slide16_##SUFFIX(out + (b * T * S + s) * C, S * C,                       \
                                         x + (b * T * S + s) * ld, S * ld, w + b * wb, T, C,     \
                                         before);                                                \
                    continue;                                                                    \
                }                                                                                \
                for (long t = 0; t < T; t++) {                                                   \
                    const TYPE *base[MAX_TAPS], *rows[MAX_TAPS];                                 \
                    const float *taps[MAX_TAPS];                                                 \
                    int n = 0;                                                                   \
                    for (long k = 0; k < K; k++) {                                               \
                        long from = t + k - before;                                              \
                        if (from < 0 || from >= T) continue;                                     \
                        base[n] = x + ((b * T + from) * S) * ld;                                 \
                        taps[n++] = w + b * wb + t * wt + k * C;                                 \
                    }                                                                            \
                    TYPE *o = out + ((b * T + t) * S) * C;                                       \
                    /* The weights of a part of the channels stay in the first-level cache. */   \
                    for (long c = 0; c < C; c += PART) {                                         \
                        long width = C - c < PART ? C - c : PART;                                \
                        const float *part[MAX_TAPS];                                             \
                        for (int k = 0; k < n; k++) part[k] = taps[k] + c;                       \
                        for (long s = start; s < stop; s++) {                                    \
                            TYPE *to = o + s * C + c;                                            \
                            for (int k = 0; k < n; k++) rows[k] = base[k] + s * ld + c;          \
                            /* Constant numbers of taps let the compiler unroll them. */         \
                            if (n == 3) NAME##_row(to, rows, part, 3, width, stream);            \
                            else if (n == 2) NAME##_row(to, rows, part, 2, width, stream);       \
                            else if (n == 1) NAME##_row(to, rows, part, 1, width, stream);       \
                            else NAME##_row(to, rows, part, n, width, stream);                   \
                        }                                                                        \
                    }                                                                            \
                }                                                                                \
                fence(stream);                                                                   \
            }                                                                                    \
    }                                                                                            \
    /* grad[b,t,k,c] = sum over s of g[b,t,s,c] * x[b,t+k-before,s,c]; g is dense. */            \
    void NAME##_weight_grad(const TYPE *g, const TYPE *x, long ld, float *grad, long B, long T,  \
                            long S, long C, long K, long before) {                               \
        _Pragma("omp parallel for collapse(2) schedule(static)")                                 \
        for (long b = 0; b < B; b++)                                                             \
            for (long t = 0; t < T; t++)                                                         \
                for (long k = 0; k < K; k++) {                                                   \
                    float *restrict into = grad + ((b * T + t) * K + k) * C;                     \
                    memset(into, 0, C * sizeof(float));                                          \
                    long from = t + k - before;                                                  \
                    if (from < 0 || from >= T) continue;                                         \
                    const TYPE *gr = g + ((b * T + t) * S) * C;                                  \
                    const TYPE *xr = x + ((b * T + from) * S) * ld;                              \
                    for (long s = 0; s < S; s++, gr += C, xr += ld)                              \
                        for (long c = 0; c < C; c++)                                             \
                            into[c] += load_##SUFFIX(gr + c) * load_##SUFFIX(xr + c);            \
                }                                                                                \
    }                                                                                            \
    /* mean[n,c] = mean over s of x[n,s,c]. Threads divide the channels of few frames. */         \
    void NAME##_mean(const TYPE *x, long ld, float *mean, long N, long S, long C) {              \
        long part = N < FEW_FRAMES && C > PART / 4 ? PART / 4 : C, parts = (C + part - 1) / part;\
        _Pragma("omp parallel for collapse(2) schedule(static) if (N * S * C > SMALL)")          \
        for (long n = 0; n < N; n++)                                                             \
            for (long i = 0; i < parts; i++) {                                                   \
                long start = i * part, width = C - start < part ? C - start : part;              \
                float *restrict into = mean + n * C + start;                                     \
                memset(into, 0, width * sizeof(float));                                          \
                const TYPE *row = x + n * S * ld + start;                                        \
                for (long s = 0; s < S; s++, row += ld)                                          \
                    for (long c = 0; c < width; c++) into[c] += load_##SUFFIX(row + c);          \
                for (long c = 0; c < width; c++) into[c] /= (float)S;                            \
            }                                                                                    \
    }                                                                                            \
    /* One step of B streams: x is the newest frame; the K-1 past ones (oldest first) and `kept` \
     * are dense. kept = g x (g is 1 if null), out = sum over k<K-1 of w[b,k,c] past[k]          \
     * + w[b,K-1,c] kept. wb is the stride of the weights along B, 0 where they are shared. */   \
    void NAME##_step(const TYPE *x, long ld, const TYPE *const *past, TYPE *kept, TYPE *out,     \
                     const float *w, long wb, const float *g, long B, long S, long C, long K) {  \
        long block = block_of(C), blocks = (S + block - 1) / block;                              \
        _Pragma("omp parallel for collapse(2) schedule(static) if (B * S * C > SMALL)")          \
        for (long b = 0; b < B; b++)                                                             \
            for (long i = 0; i < blocks; i++) {                                                  \
                long start = i * block, stop = start + block < S ? start + block : S;            \
                const TYPE *rows[MAX_TAPS];                                                      \
                const float *taps[MAX_TAPS], *factor = g ? g + b * C : 0;                        \
                for (long k = 0; k < K; k++) taps[k] = w + b * wb + k * C;                       \
                for (long s = start; s < stop; s++) {                                            \
                    long at = (b * S + s) * C;                                                   \
                    const TYPE *here = x + (b * S + s) * ld;                                     \
                    if (factor) NAME##_row(kept + at, &here, &factor, 1, C, 0);                  \
                    else memcpy(kept + at, here, C * sizeof(TYPE));                              \
                    for (long k = 0; k < K - 1; k++) rows[k] = past[k] + at;                     \
                    rows[K - 1] = kept + at;                                                     \
                    if (K == 3) NAME##_row(out + at, rows, taps, 3, C, 0);                       \
                    else NAME##_row(out + at, rows, taps, K, C, 0);                              \
                }                                                                                \
            }                                                                                    \
    }

DEFINE_MIX(mix_f32, float, f32)
DEFINE_MIX(mix_b16, bf16, b16)

/* One row of bytes: [0,a) from `next`, [a,a+p) from `last`, the rest from `here`; a null neighbor
 * gives zeros. */
static inline void shift_row(char *o, const char *next, const char *last, const char *here, long a,
                             long p, long width, int stream) {
    long i = 0;
#ifdef __AVX512BW__
    for (; i + 64 <= width; i += 64) {
        __m512i v;
        if (i >= a + p) {
            v = _mm512_loadu_si512(here + i);
        } else {
            __mmask64 ahead = i + 64 <= a ? ~0ULL : (i >= a ? 0 : (1ULL << (a - i)) - 1);
            long end = a + p - i;
            __mmask64 moved = end >= 64 ? ~0ULL : (1ULL << end) - 1;
            __mmask64 behind = moved & ~ahead;
            v = _mm512_maskz_loadu_epi8(~moved, here + i);
            if (next) v = _mm512_mask_loadu_epi8(v, ahead, next + i);
            if (last) v = _mm512_mask_loadu_epi8(v, behind, last + i);
        }
        if (stream) _mm512_stream_si512((__m512i *)(o + i), v);
        else _mm512_storeu_si512(o + i, v);
    }
#else
    (void)stream;
#endif
    for (; i < width; i++) {
        const char *from = i < a ? next : i < a + p ? last : here;
        o[i] = from ? from[i] : 0;
    }
}

/* Moves the first `ahead` channels from the next frame, the `behind` after them from the previous
 * one. `size` is the bytes per value. `sign` is 1, or -1 to exchange next and previous. */
void shift(const char *x, long ld, char *out, long size, long B, long T, long S, long C, long ahead,
           long behind, long sign) {
    long block = block_of(C), blocks = (S + block - 1) / block;
    long a = ahead * size, p = behind * size, step = ld * size, width = C * size, frame = S * step;
    int stream = streams(out, width, B * T * S * width);
#pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < B; b++)
        for (long i = 0; i < blocks; i++) {
            long start = i * block, stop = start + block < S ? start + block : S;
            for (long t = 0; t < T; t++) {
                const char *here = x + ((b * T + t) * S + start) * step;
                char *o = out + ((b * T + t) * S + start) * width;
                int is_next = t + sign >= 0 && t + sign < T, is_last = t - sign >= 0 && t - sign < T;
                for (long s = start; s < stop; s++, here += step, o += width)
                    shift_row(o, is_next ? here + sign * frame : 0,
                              is_last ? here - sign * frame : 0, here, a, p, width, stream);
            }
            fence(stream);
        }
}

/* Rows of motion that share the loads of the weights in map_gate, and values in a register. */
#define ROWS 8
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* tanh as a fraction of polynomials, which the compiler vectorizes; coefficients of Eigen's ptanh,
 * relative error 4e-7. Beyond the bound tanh is 1 in float. */
static inline float tanh_of(float v) {
    v = v > 7.9053111f ? 7.9053111f : v;
    v = v < -7.9053111f ? -7.9053111f : v;
    float s = v * v, p = -2.76076847742355e-16f, q = 1.19825839466702e-06f;
    p = p * s + 2.00018790482477e-13f;
    p = p * s - 8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return v * p / q;
}

/* Product of x, R rows of C values, with 1 + share * (sum of tanh(b + m w) over G rows of motion).
 * m is (G,R,D), w (D,C), b (C,); C is a multiple of LANES and G divides ROWS. The gates, G times as
 * large as x, are never stored. */
void map_gate(const float *x, long ld, float *out, const float *m, const float *w, const float *b,
              long G, long R, long D, long C, float share) {
    long step = ROWS / G;
#pragma omp parallel for schedule(static) if (R * C > SMALL)
    for (long first = 0; first < R; first += step) {
        const float *motion[ROWS];
        for (long i = 0; i < ROWS; i++) { /* the last rows are computed again at the end */
            long row = first + i / G < R ? first + i / G : R - 1;
            motion[i] = m + (i % G * R + row) * D;
        }
        for (long c = 0; c < C; c += LANES) {
            lanes sums[ROWS], weight;
            memcpy(&weight, b + c, sizeof(weight));
            for (long i = 0; i < ROWS; i++) sums[i] = weight;
            for (long d = 0; d < D; d++) {
                memcpy(&weight, w + d * C + c, sizeof(weight));
#pragma GCC unroll 8
                for (long i = 0; i < ROWS; i++) sums[i] += motion[i][d] * weight;
            }
            float gate[ROWS][LANES], *flat = gate[0];
            memcpy(gate, sums, sizeof(gate));
            for (long i = 0; i < ROWS * LANES; i++) flat[i] = tanh_of(flat[i]);
            for (long p = 0; p < step && first + p < R; p++) {
                float sum[LANES] = {0};
                for (long g = 0; g < G; g++)
                    for (long l = 0; l < LANES; l++) sum[l] += gate[p * G + g][l];
                const float *from = x + (first + p) * ld + c;
                float *to = out + (first + p) * C + c;
                for (long l = 0; l < LANES; l++) to[l] = from[l] * (1 + share * sum[l]);
            }
        }
    }
}

/* TAM's kernels for every channel: softmax(f2 relu(f1 p + b1)) of pooled windows p (B,W,C), oldest
 * frame first; f1 (H,W), f2 (K,H), out (B,K,C). */
void adaptive_kernels(const float *p, long B, long W, long C, const float *f1, const float *b1,
                      long H, const float *f2, long K, float *out) {
    for (long b = 0; b < B; b++)
        for (long start = 0; start < C; start += LANES) {
            long width = C - start < LANES ? C - start : LANES;
            float logit[MAX_TAPS][LANES] = {{0}}, total[LANES] = {0}, top[LANES];
            for (long h = 0; h < H; h++) {
                float hidden[LANES] = {0};
                for (long t = 0; t < W; t++) {
                    const float *row = p + (b * W + t) * C + start;
                    for (long c = 0; c < width; c++) hidden[c] += f1[h * W + t] * row[c];
                }
                for (long c = 0; c < LANES; c++) {
                    hidden[c] += b1[h];
                    hidden[c] = hidden[c] > 0 ? hidden[c] : 0;
                }
                for (long k = 0; k < K; k++)
                    for (long c = 0; c < LANES; c++) logit[k][c] += f2[k * H + h] * hidden[c];
            }
            memcpy(top, logit[0], sizeof(top));
            for (long k = 1; k < K; k++)
                for (long c = 0; c < LANES; c++) top[c] = logit[k][c] > top[c] ? logit[k][c] : top[c];
            for (long k = 0; k < K; k++)
                for (long c = 0; c < LANES; c++) {
                    logit[k][c] = expf(logit[k][c] - top[c]);
                    total[c] += logit[k][c];
                }
            for (long k = 0; k < K; k++)
                for (long c = 0; c < width; c++)
                    out[(b * K + k) * C + start + c] = logit[k][c] / total[c];
        }
}
