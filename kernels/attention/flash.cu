// O = softmax(Q K' scale) V on tensor cores, the scores never leaving the chip: online softmax as in Milakov and Gimelshein, "Online
// normalizer calculation for softmax" (arXiv 1805.02867), tile by tile as in Dao, "FlashAttention-2" (arXiv 2307.08691).
//
// A block takes BQ queries of one head, each warp 16 of them, and walks over the keys that they see, BKV at a time. While scores are
// computed the values are on their way to shared memory, while values are summed the next keys are. What a warp does with its
// instructions is in `flash_warp.cu` (sm_75 on) and `flash_warp_volta.cu` (sm_70).
//
// Q, O: batch x heads x seq_q x width; K, V: batch x kv_heads x seq_kv x width. Defined before: DTYPE, FP16 or BF16; DIM and DIM_V, the widths
// of keys and values rounded up to multiples of 16, filled with zeros; VECTOR, 1 where rows are whole multiples of 16 bytes; CAUSAL: query i
// sees key j only if i - window < j <= i; BQ, BKV.

enum { THREADS = BQ / 16 * 32 };

// Copies that a thread waits for it should have several of under way, whatever registers that takes; others need none.
#if VECTOR && __CUDA_ARCH__ >= 800
#define COPIES_AT_ONCE 1
#else
#define COPIES_AT_ONCE 4
#endif

// Rows of one matrix in shared memory: an odd multiple of 16 bytes, so that 8 neighbouring rows hit all banks.
template <int WIDTH> struct Rows { enum { PITCH = WIDTH * 2 + 16 }; };

// Brings rows `first` to `first + ROWS - 1` of a matrix of `rows` rows to shared memory, zeros beyond its rows and its width.
template <int ROWS, int WIDTH> DEVICE void bring(unsigned char* to, const T* from, int first, int rows, int width) {
#if VECTOR
    enum { AT_ONCE = 8 };
#else
    enum { AT_ONCE = 1 };
#endif
#pragma unroll COPIES_AT_ONCE
    for (int i = threadIdx.x; i < ROWS * WIDTH / AT_ONCE; i += THREADS) {
        const int row = i / (WIDTH / AT_ONCE), column = i % (WIDTH / AT_ONCE) * AT_ONCE;
        const bool inside = first + row < rows && column < width;
        const T* place = from + (size_t)(first + row) * width + column;
        unsigned char* target = to + row * Rows<WIDTH>::PITCH + column * 2;
#if VECTOR && __CUDA_ARCH__ >= 800
        copy_async(target, place, inside);
#elif VECTOR
        *(Bytes16*)target = inside ? *(const Bytes16*)place : Bytes16{{0, 0, 0, 0}};
#else
        *(T*)target = inside ? *place : T(0);
#endif
    }
    copies_commit();
}

DEVICE float larger(float x, float y) { return x > y ? x : y; }

// The same over all lanes that hold parts of the same rows.
DEVICE float row_maximum(float x) {
    x = larger(x, shuffle_xor(x, ROW_LANES_FIRST));
    return larger(x, shuffle_xor(x, ROW_LANES_SECOND));
}

DEVICE float row_sum(float x) {
    x += shuffle_xor(x, ROW_LANES_FIRST);
    return x + shuffle_xor(x, ROW_LANES_SECOND);
}

// At least one block to a multiprocessor: without saying so, compilers spill some registers to make room for two.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention(const T* q, const T* k, const T* v, T* o, int heads_of_all, int group, int seq_q, int seq_kv, int dim, int dim_v, int window,
              float scale) {
    extern __shared__ __align__(128) unsigned char shared_memory[];
    unsigned char* const q_tile = shared_memory;
    unsigned char* const k_tile = q_tile + BQ * Rows<DIM>::PITCH;
    unsigned char* const v_tile = k_tile + BKV * Rows<DIM>::PITCH;
    unsigned char* const spare = v_tile + BKV * Rows<DIM_V>::PITCH;

    // All heads of the last queries first: causally they see most keys, and the longest work should start first.
    const int tiles = (seq_q + BQ - 1) / BQ, head = blockIdx.x % heads_of_all, first = (tiles - 1 - (int)blockIdx.x / heads_of_all) * BQ;
    q += (size_t)head * seq_q * dim;
    o += (size_t)head * seq_q * dim_v;
    k += (size_t)(head / group) * seq_kv * dim;
    v += (size_t)(head / group) * seq_kv * dim_v;

    const int begin = CAUSAL && first - window + 1 > 0 ? (first - window + 1) / BKV * BKV : 0;
    const int end = CAUSAL && first + BQ < seq_kv ? first + BQ : seq_kv;
    const float log2_scale = scale * 1.4426950408889634f;  // exp(scale x) = 2^(log2_scale x)
    const float never = -1.0f / 0.0f;

    bring<BQ, DIM>(q_tile, q, first, seq_q, dim);
    bring<BKV, DIM>(k_tile, k, begin, seq_kv, dim);
    Warp warp(q_tile, spare);
    float outputs[DIM_V / 16][8] = {};
    float highest[2] = {never, never}, total[2] = {0, 0};  // of the thread's two rows: over all columns, over its own
    for (int at = begin; at < end; at += BKV) {
        copies_wait<0>();
        __syncthreads();  // keys are here, and all have finished with the last values
        bring<BKV, DIM_V>(v_tile, v, at, seq_kv, dim_v);
        float scores[BKV / 16][8] = {};
        warp.score(scores, k_tile);

        const bool cut = at + BKV > seq_kv || (CAUSAL && (at + BKV > first + 1 || at <= first + BQ - 1 - window));
        if (cut) {
#pragma unroll
            for (int i = 0; i < BKV / 16; ++i)
#pragma unroll
                for (int e = 0; e < 8; ++e) {
                    const int key = at + 16 * i + warp.column(e), query = first + warp.row(warp.half(e));
                    if (key >= seq_kv || (CAUSAL && (key > query || key <= query - window))) scores[i][e] = never;
                }
        }
        float shrink[2], shift[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float top = highest[half];
#pragma unroll
            for (int i = 0; i < BKV / 16; ++i)
#pragma unroll
                for (int e = 0; e < 8; ++e)
                    if (warp.half(e) == half) top = larger(top, scores[i][e]);
            top = row_maximum(top);
            shift[half] = top == never ? 0 : top * log2_scale;  // a row may see nothing yet
            shrink[half] = exp2_fast(highest[half] * log2_scale - shift[half]);
            highest[half] = top;
            total[half] *= shrink[half];
        }
#pragma unroll
        for (int i = 0; i < BKV / 16; ++i)
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                scores[i][e] = exp2_fast(scores[i][e] * log2_scale - shift[warp.half(e)]);
                total[warp.half(e)] += scores[i][e];
            }
#pragma unroll
        for (int i = 0; i < DIM_V / 16; ++i)
#pragma unroll
            for (int e = 0; e < 8; ++e) outputs[i][e] *= shrink[warp.half(e)];

        copies_wait<0>();
        __syncthreads();  // values are here, and all have finished with the keys
        if (at + BKV < end) bring<BKV, DIM>(k_tile, k, at + BKV, seq_kv, dim);
        warp.add_values(outputs, scores, v_tile);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) total[half] = 1 / row_sum(total[half]);
#pragma unroll
    for (int i = 0; i < DIM_V / 16; ++i)
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            const int query = first + warp.row(warp.half(e)), column = 16 * i + warp.column(e);
            if (query >= seq_q) continue;
            T* to = o + (size_t)query * dim_v + column;
            if (column < dim_v) to[0] = narrow(outputs[i][e] * total[warp.half(e)]);
            if (column + 1 < dim_v) to[1] = narrow(outputs[i][e + 1] * total[warp.half(e)]);
        }
}
