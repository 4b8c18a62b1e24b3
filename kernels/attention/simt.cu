// O = softmax(Q K' scale) V without tensor cores, in fp32: tile by tile with online softmax, as `flash.cu` does it.
//
// A block takes BQ queries of one head and walks over the keys that they see, BKV at a time; 16 threads share 4 queries. Of 4 x BKV scores
// a thread computes 4 x BKV / 16, of 4 x DIM_V outputs 4 x DIM_V / 16. Keys and values take turns in one piece of shared memory.
//
// Q, O: batch x heads x seq_q x width; K, V: batch x kv_heads x seq_kv x width. Defined before: FP16, 1 where elements are the bits of fp16
// and not fp32; DIM and DIM_V, the widths rounded up to multiples of 4 and 64, filled with zeros; CAUSAL: query i sees key j only if
// i - window < j <= i; BQ, BKV.

#if FP16
typedef unsigned short T;
DEVICE float widen(T bits) { return fp16_to_float(bits); }
DEVICE T narrow(float x) { return float_to_fp16(x); }
#else
typedef float T;
DEVICE float widen(T x) { return x; }
DEVICE T narrow(float x) { return x; }
#endif

enum {
    ROWS = 4,
    SHARING = 16,
    THREADS = BQ / ROWS * SHARING,
    KEYS = BKV / SHARING,
    // Rows of shared memory, 16 bytes longer than their content, so that 8 neighbouring rows hit all banks.
    PITCH = DIM + 4,
    PITCH_V = DIM_V + 4,
    PITCH_WEIGHTS = BKV + 4,
    PITCH_TURN = PITCH > PITCH_V ? PITCH : PITCH_V,
};

struct alignas(16) Four { float x[4]; };

// Brings rows `first` to `first + COUNT - 1` of a matrix to shared memory, zeros beyond its rows and its width.
template <int COUNT, int WIDTH, int LENGTH> DEVICE void bring(float* to, const T* from, int first, int rows, int width) {
#pragma unroll 4
    for (int i = threadIdx.x; i < COUNT * WIDTH; i += THREADS) {
        const int row = i / WIDTH, column = i % WIDTH;
        const bool inside = first + row < rows && column < width;
        to[row * LENGTH + column] = inside ? widen(from[(size_t)(first + row) * width + column]) : 0.0f;
    }
}

DEVICE float larger(float x, float y) { return x > y ? x : y; }

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention(const T* q, const T* k, const T* v, T* o, int heads_of_all, int group, int seq_q, int seq_kv, int dim, int dim_v, int window,
              float scale) {
    extern __shared__ __align__(128) unsigned char shared_memory[];
    float* const q_tile = (float*)shared_memory;
    float* const turn = q_tile + BQ * PITCH;           // keys, then values
    float* const weights = turn + BKV * PITCH_TURN;

    // All heads of the last queries first: causally they see most keys, and the longest work should start first.
    const int tiles = (seq_q + BQ - 1) / BQ, head = blockIdx.x % heads_of_all, first = (tiles - 1 - (int)blockIdx.x / heads_of_all) * BQ;
    q += (size_t)head * seq_q * dim;
    o += (size_t)head * seq_q * dim_v;
    k += (size_t)(head / group) * seq_kv * dim;
    v += (size_t)(head / group) * seq_kv * dim_v;

    const int own = threadIdx.x % SHARING, row = threadIdx.x / SHARING * ROWS;
    const int begin = CAUSAL && first - window + 1 > 0 ? (first - window + 1) / BKV * BKV : 0;
    const int end = CAUSAL && first + BQ < seq_kv ? first + BQ : seq_kv;
    const float log2_scale = scale * 1.4426950408889634f;  // exp(scale x) = 2^(log2_scale x)
    const float never = -1.0f / 0.0f;

    bring<BQ, DIM, PITCH>(q_tile, q, first, seq_q, dim);
    float outputs[ROWS][DIM_V / SHARING] = {};
    float highest[ROWS] = {never, never, never, never}, total[ROWS] = {};
    for (int at = begin; at < end; at += BKV) {
        __syncthreads();  // all have finished with the last values
        bring<BKV, DIM, PITCH_TURN>(turn, k, at, seq_kv, dim);
        __syncthreads();
        float scores[ROWS][KEYS] = {};
#pragma unroll 4
        for (int d = 0; d < DIM; d += 4) {
            Four a[ROWS], b[KEYS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) a[r] = *(const Four*)(q_tile + (row + r) * PITCH + d);
#pragma unroll
            for (int c = 0; c < KEYS; ++c) b[c] = *(const Four*)(turn + (own + c * SHARING) * PITCH_TURN + d);
#pragma unroll
            for (int r = 0; r < ROWS; ++r)
#pragma unroll
                for (int c = 0; c < KEYS; ++c)
#pragma unroll
                    for (int x = 0; x < 4; ++x) scores[r][c] += a[r].x[x] * b[c].x[x];
        }
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            const int query = first + row + r;
            float top = highest[r];
#pragma unroll
            for (int c = 0; c < KEYS; ++c) {
                const int key = at + own + c * SHARING;
                if (key >= seq_kv || (CAUSAL && (key > query || key <= query - window))) scores[r][c] = never;
                top = larger(top, scores[r][c]);
            }
#pragma unroll
            for (int lanes = SHARING / 2; lanes > 0; lanes /= 2) top = larger(top, shuffle_xor(top, lanes));
            const float shift = top == never ? 0 : top * log2_scale;  // a row may see nothing yet
            const float shrink = exp2_fast(highest[r] * log2_scale - shift);
            highest[r] = top;
            total[r] *= shrink;
#pragma unroll
            for (int c = 0; c < KEYS; ++c) {
                const float weight = exp2_fast(scores[r][c] * log2_scale - shift);
                total[r] += weight;
                weights[(row + r) * PITCH_WEIGHTS + own + c * SHARING] = weight;
            }
#pragma unroll
            for (int c = 0; c < DIM_V / SHARING; ++c) outputs[r][c] *= shrink;
        }
        __syncthreads();  // weights are here, and all have finished with the keys
        bring<BKV, DIM_V, PITCH_TURN>(turn, v, at, seq_kv, dim_v);
        __syncthreads();
#pragma unroll 1
        for (int j = 0; j < BKV; j += 4) {
            Four w[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) w[r] = *(const Four*)(weights + (row + r) * PITCH_WEIGHTS + j);
#pragma unroll
            for (int x = 0; x < 4; ++x)
#pragma unroll
                for (int c = 0; c < DIM_V / SHARING; c += 4) {
                    const Four value = *(const Four*)(turn + (j + x) * PITCH_TURN + c * SHARING + own * 4);
#pragma unroll
                    for (int r = 0; r < ROWS; ++r)
#pragma unroll
                        for (int y = 0; y < 4; ++y) outputs[r][c + y] += w[r].x[x] * value.x[y];
                }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        float sum = total[r];
#pragma unroll
        for (int lanes = SHARING / 2; lanes > 0; lanes /= 2) sum += shuffle_xor(sum, lanes);
        const int query = first + row + r;
#pragma unroll
        for (int c = 0; c < DIM_V / SHARING; ++c) {
            const int column = c / 4 * 4 * SHARING + own * 4 + c % 4;
            if (query < seq_q && column < dim_v) o[(size_t)query * dim_v + column] = narrow(outputs[r][c] / sum);
        }
    }
}
