// A warp's part of attention on the tensor cores of sm_70: 16 queries, fp16. One instruction multiplies four pairs of 8 x 4 and 4 x 8, one
// for each quad pair of lanes (`intrinsics.cu` has the layout), which share 16 x 16 two by two. Of these 16 rows, or columns, quad pair `side`
// computes 4 side to 4 side + 3 and those 8 below. The weights change their layout on their way through shared memory.

typedef unsigned short T;
DEVICE T narrow(float x) { return float_to_fp16(x); }

enum { ROW_LANES_FIRST = 2, ROW_LANES_SECOND = 8 };

struct Warp {
    enum { PITCH = DIM * 2 + 16, PITCH_V = DIM_V * 2 + 16, PITCH_WEIGHTS = BKV * 2 + 16 };
    const unsigned char* q_rows;
    unsigned char* weights_tile;

    DEVICE int above() { return threadIdx.x % 32 < 16 ? 0 : 8; }
    DEVICE int row_in_warp(int half) { return threadIdx.x % 2 + 2 * half + 4 * (threadIdx.x / 4 % 2) + above(); }
    DEVICE int half(int e) { return e / 2 % 2; }
    DEVICE int row(int half) { return threadIdx.x / 32 * 16 + row_in_warp(half); }
    DEVICE int column(int e) { return e / 4 * 8 + (threadIdx.x & 2) + 4 * (threadIdx.x / 8 % 2) + e % 2; }
    // The row (of A) or column (of B) whose elements along k the lane holds.
    DEVICE int own_a() { return threadIdx.x % 4 + 4 * (threadIdx.x / 4 % 2) + above(); }
    DEVICE int own_b() { return threadIdx.x % 4 + 4 * (threadIdx.x / 8 % 2) + above(); }

    __device__ __forceinline__ Warp(const unsigned char* q_tile, unsigned char* spare) {
        q_rows = q_tile + (threadIdx.x / 32 * 16 + own_a()) * PITCH;
        weights_tile = spare + threadIdx.x / 32 * 16 * PITCH_WEIGHTS;
    }

    // scores += Q K'
    __device__ __forceinline__ void score(float (*scores)[8], const unsigned char* k_tile) const {
        const unsigned char* k_rows = k_tile + own_b() * PITCH;
#pragma unroll
        for (int d = 0; d < DIM / 8; ++d) {
            const Bytes16 a = *(const Bytes16*)(q_rows + d * 16);
#pragma unroll
            for (int i = 0; i < BKV / 16; ++i) {
                const Bytes16 b = *(const Bytes16*)(k_rows + 16 * i * PITCH + d * 16);
                mma_quad_pairs<true, false>(scores[i], a.word, b.word);
                mma_quad_pairs<true, false>(scores[i], a.word + 2, b.word + 2);
            }
        }
    }

    // outputs += weights V
    __device__ __forceinline__ void add_values(float (*outputs)[8], const float (*weights)[8], const unsigned char* v_tile) const {
#pragma unroll
        for (int j = 0; j < BKV / 16; ++j)
#pragma unroll
            for (int e = 0; e < 8; e += 2)
                *(unsigned*)(weights_tile + row_in_warp(half(e)) * PITCH_WEIGHTS + (16 * j + column(e)) * 2) =
                    pack_fp16(weights[j][e], weights[j][e + 1]);
        warp_barrier();
        const unsigned char* v_rows = v_tile + threadIdx.x % 4 * PITCH_V + (4 * (threadIdx.x / 8 % 2) + above()) * 2;
#pragma unroll
        for (int j = 0; j < BKV / 8; ++j) {
            const Bytes16 a = *(const Bytes16*)(weights_tile + own_a() * PITCH_WEIGHTS + j * 16);
#pragma unroll
            for (int i = 0; i < DIM_V / 16; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    unsigned b[2];
                    memcpy(b, __builtin_assume_aligned(v_rows + (8 * j + 4 * half) * PITCH_V + i * 32, 8), 8);
                    mma_quad_pairs<true, true>(outputs[i], a.word + 2 * half, b);
                }
        }
        warp_barrier();  // before the next weights overwrite these
    }
};
