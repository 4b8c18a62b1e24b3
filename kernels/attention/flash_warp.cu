// A warp's part of attention on tensor cores from sm_75 on: 16 queries. Of each 16 x 16 scores or outputs a thread holds 8, those of
// rows g and g + 8 with g = lane / 4, in columns 2 t, 2 t + 1 and 8 above with t = lane % 4. Scores lie as the next instruction takes them.

#define FP16 16
#define BF16 17

typedef unsigned short T;
#if DTYPE == FP16
DEVICE void mma(float c[4], const unsigned a[4], const unsigned b[2]) { mma_fp16(c, a, b); }
DEVICE unsigned pack(float low, float high) { return pack_fp16(low, high); }
DEVICE T narrow(float x) { return float_to_fp16(x); }
#else
DEVICE void mma(float c[4], const unsigned a[4], const unsigned b[2]) { mma_bf16(c, a, b); }
DEVICE unsigned pack(float low, float high) { return pack_bf16(low, high); }
DEVICE T narrow(float x) { return float_to_bf16(x); }
#endif

enum { ROW_LANES_FIRST = 1, ROW_LANES_SECOND = 2 };

struct Warp {
    enum { PITCH = DIM * 2 + 16, PITCH_V = DIM_V * 2 + 16 };
    const unsigned char* q_rows;

    DEVICE int half(int e) { return e / 2 % 2; }
    DEVICE int row(int half) { return threadIdx.x / 32 * 16 + 8 * half + threadIdx.x % 32 / 4; }
    DEVICE int column(int e) { return e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2; }

    __device__ __forceinline__ Warp(const unsigned char* q_tile, unsigned char*) {
        q_rows = q_tile + (threadIdx.x / 32 * 16 + threadIdx.x % 16) * PITCH + threadIdx.x % 32 / 16 * 16;
    }

    // scores += Q K'
    __device__ __forceinline__ void score(float (*scores)[8], const unsigned char* k_tile) const {
        const int lane = threadIdx.x % 32;
        const unsigned char* k_rows = k_tile + (lane / 16 * 8 + lane % 8) * PITCH + lane / 8 % 2 * 16;
#pragma unroll
        for (int d = 0; d < DIM / 16; ++d) {
            unsigned a[4];
            load_matrices(a, q_rows + d * 32);
#pragma unroll
            for (int i = 0; i < BKV / 16; ++i) {
                unsigned b[4];
                load_matrices(b, k_rows + 16 * i * PITCH + d * 32);
                mma(scores[i], a, b);
                mma(scores[i] + 4, a, b + 2);
            }
        }
    }

    // outputs += weights V
    __device__ __forceinline__ void add_values(float (*outputs)[8], const float (*weights)[8], const unsigned char* v_tile) const {
        const int lane = threadIdx.x % 32;
        const unsigned char* v_rows = v_tile + lane % 16 * PITCH_V + lane / 16 * 16;
#pragma unroll
        for (int j = 0; j < BKV / 16; ++j) {
            const float* w = weights[j];
            const unsigned a[4] = {pack(w[0], w[1]), pack(w[2], w[3]), pack(w[4], w[5]), pack(w[6], w[7])};
#pragma unroll
            for (int i = 0; i < DIM_V / 16; ++i) {
                unsigned b[4];
                load_matrices_transposed(b, v_rows + 16 * j * PITCH_V + i * 32);
                mma(outputs[i], a, b);
                mma(outputs[i] + 4, a, b + 2);
            }
        }
    }
};
