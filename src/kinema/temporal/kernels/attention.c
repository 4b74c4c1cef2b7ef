/* Attention of TSI's saliency alignment (equation 3) on the CPU, compiled with native.c. */
#include <math.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

/* Attention of q over k with the keys as values: q (P,S,D) row-major, kt (P,D,S) the keys
 * transposed, out (P,S,D). No score is stored.
 *
 * The softmax subtracts an upper bound of the scores, |q| max|k|, instead of their maximum, which
 * would take one more pass. If the bound is so loose that all weights underflow, the query is
 * computed again with the maximum. */
#ifdef __AVX512F__
static inline __m512 exp2_16(__m512 x) {
    __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_sub_ps(x, n);
    __m512 p = _mm512_set1_ps(1.32368e-3f); /* fitted on [-1/2, 1/2], relative error 1.2e-7 */
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.66907e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550794e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.4022293e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9314697e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

#define DEFINE_ATTEND(D_, Q_)                                                                    \
    static inline float attend_rows_##D_(const float *q, const float *kt, float *out, long S,    \
                                         float scale, const float *top) {                        \
        __m512 query[Q_][D_], sums[Q_][D_], total[Q_], base[Q_];                                 \
        for (int i = 0; i < Q_; i++) {                                                           \
            base[i] = _mm512_set1_ps(-top[i]);                                                   \
            total[i] = _mm512_setzero_ps();                                                      \
            for (int d = 0; d < D_; d++) {                                                       \
                query[i][d] = _mm512_set1_ps(q[i * D_ + d] * scale);                             \
                sums[i][d] = _mm512_setzero_ps();                                                \
            }                                                                                    \
        }                                                                                        \
        for (long j = 0; j < S; j += 16) {                                                       \
            __mmask16 mask = S - j < 16 ? (__mmask16)((1u << (S - j)) - 1) : 0xffff;             \
            __m512 key[D_];                                                                      \
            for (int d = 0; d < D_; d++) key[d] = _mm512_maskz_loadu_ps(mask, kt + d * S + j);   \
            for (int i = 0; i < Q_; i++) {                                                       \
                __m512 score = base[i];                                                          \
                for (int d = 0; d < D_; d++) score = _mm512_fmadd_ps(query[i][d], key[d], score);\
                __m512 e = _mm512_maskz_mov_ps(mask, exp2_16(score));                            \
                total[i] = _mm512_add_ps(total[i], e);                                           \
                for (int d = 0; d < D_; d++) sums[i][d] = _mm512_fmadd_ps(e, key[d], sums[i][d]);\
            }                                                                                    \
        }                                                                                        \
        float least = INFINITY;                                                                  \
        for (int i = 0; i < Q_; i++) {                                                           \
            float whole = _mm512_reduce_add_ps(total[i]);                                        \
            least = whole < least ? whole : least;                                               \
            for (int d = 0; d < D_; d++)                                                         \
                out[i * D_ + d] = _mm512_reduce_add_ps(sums[i][d]) / whole;                      \
        }                                                                                        \
        return least;                                                                            \
    }
#else
#define DEFINE_ATTEND(D_, Q_)                                                                    \
    static inline float attend_rows_##D_(const float *q, const float *kt, float *out, long S,    \
                                         float scale, const float *top) {                        \
        float least = INFINITY;                                                                  \
        for (int i = 0; i < Q_; i++) {                                                           \
            float sums[D_], total = 0;                                                           \
            for (int d = 0; d < D_; d++) sums[d] = 0;                                            \
            for (long j = 0; j < S; j++) {                                                       \
                float score = -top[i];                                                           \
                for (int d = 0; d < D_; d++) score += q[i * D_ + d] * scale * kt[d * S + j];     \
                float e = exp2f(score);                                                          \
                total += e;                                                                      \
                for (int d = 0; d < D_; d++) sums[d] += e * kt[d * S + j];                       \
            }                                                                                    \
            for (int d = 0; d < D_; d++) out[i * D_ + d] = sums[d] / total;                      \
            least = total < least ? total : least;                                               \
        }                                                                                        \
        return least;                                                                            \
    }
#endif

/* With a smaller sum of weights the bound was too loose for an exact result. */
#define TRUSTED 1e-30f

/* Largest score of a query. */
static float top_score(const float *q, const float *kt, long S, long D, float scale) {
    float best = -INFINITY;
    for (long j = 0; j < S; j++) {
        float score = 0;
        for (long d = 0; d < D; d++) score += q[d] * kt[d * S + j];
        best = score > best ? score : best;
    }
    return best * scale;
}

static float largest_key(const float *kt, long S, long D) {
    float best = 0;
    for (long j = 0; j < S; j++) {
        float norm = 0;
        for (long d = 0; d < D; d++) norm += kt[d * S + j] * kt[d * S + j];
        best = norm > best ? norm : best;
    }
    return sqrtf(best);
}

static float length_of(const float *q, long D) {
    float norm = 0;
    for (long d = 0; d < D; d++) norm += q[d] * q[d];
    return sqrtf(norm);
}

/* Groups of queries that one thread computes with the same keys. */
#define GROUPS 64

#define DEFINE_ATTEND_ALL(D_, Q_)                                                                \
    DEFINE_ATTEND(D_, Q_)                                                                        \
    static void attend_##D_(const float *q, const float *kt, float *out, long P, long S,         \
                            float scale) {                                                       \
        long rows = GROUPS * Q_, parts = (S + rows - 1) / rows;                                  \
        _Pragma("omp parallel for collapse(2) schedule(static)")                                 \
        for (long p = 0; p < P; p++)                                                             \
            for (long part = 0; part < parts; part++) {                                          \
                const float *keys = kt + p * D_ * S;                                             \
                float longest = largest_key(keys, S, D_);                                        \
                long stop = (part + 1) * rows < S ? (part + 1) * rows : S;                       \
                for (long first = part * rows; first < stop; first += Q_) {                      \
                    long n = stop - first < Q_ ? stop - first : Q_;                              \
                    float some[Q_ * D_] = {0}, result[Q_ * D_], top[Q_] = {0};                   \
                    memcpy(some, q + (p * S + first) * D_, n * D_ * sizeof(float));              \
                    for (long i = 0; i < n; i++)                                                 \
                        top[i] = length_of(some + i * D_, D_) * longest * scale;                 \
                    if (!(attend_rows_##D_(some, keys, result, S, scale, top) > TRUSTED)) {      \
                        for (long i = 0; i < n; i++)                                             \
                            top[i] = top_score(some + i * D_, keys, S, D_, scale);               \
                        attend_rows_##D_(some, keys, result, S, scale, top);                     \
                    }                                                                            \
                    memcpy(out + (p * S + first) * D_, result, n * D_ * sizeof(float));          \
                }                                                                                \
            }                                                                                    \
    }

DEFINE_ATTEND_ALL(4, 4)
DEFINE_ATTEND_ALL(8, 6)
DEFINE_ATTEND_ALL(16, 4)
DEFINE_ATTEND_ALL(32, 4)

/* Returns 0 if this width has no kernel. `scale` is the factor of the scores times log2(e). */
int attend(const float *q, const float *kt, float *out, long P, long S, long D, float scale) {
    if (D == 4) attend_4(q, kt, out, P, S, scale);
    else if (D == 8) attend_8(q, kt, out, P, S, scale);
    else if (D == 16) attend_16(q, kt, out, P, S, scale);
    else if (D == 32) attend_32(q, kt, out, P, S, scale);
    else return 0;
    return 1;
}
