// For products on tensor cores: the element types, and how tiles of A and B come from global to shared memory.
//
// An operand lies in shared memory as in global memory: ALONG_K in lines of 64 bytes of one row (column) each, else in lines of one k.
// Lines are padded to odd multiples of 16 bytes, so that 8 of them read at once hit all banks. Tiles are brought from sm_80 on by
// asynchronous copies, else (and where rows are no whole multiples of 16 bytes) through registers.
//
// Defined before: DTYPE, one of FP16, BF16, TF32, INT8; A_TRANSPOSED (A is stored k x m), B_TRANSPOSED (n x k); A_VECTOR, B_VECTOR, 1 where
// rows in memory are whole multiples of 16 bytes; BM, BN, WM, WN, STAGES.

#define FP16 16
#define BF16 17
#define TF32 32
#define INT8 8

#if DTYPE == INT8
typedef signed char T;
typedef int Sum;
typedef int Result;
DEVICE Result result(int x) { return x; }
#elif DTYPE == TF32
typedef float T;
typedef float Sum;
typedef float Result;
DEVICE Result result(float x) { return x; }
#else
typedef unsigned short T;
typedef float Sum;
typedef unsigned short Result;
#if DTYPE == FP16
DEVICE Result result(float x) { return float_to_fp16(x); }
#else
DEVICE Result result(float x) { return float_to_bf16(x); }
#endif
#endif

#if __CUDA_ARCH__ >= 800 && A_VECTOR && B_VECTOR
#define ASYNC 1
#else
#define ASYNC 0
#endif

enum {
    SIZE = sizeof(T),
    BK = 64 / SIZE,
    STEP = 32 / SIZE,  // elements along k in one instruction
    WARPS_N = BN / WN,
    THREADS = BM / WM * WARPS_N * 32,
};

// Bytes from a line to the next in shared memory. Words of TF32 across k are read one by one: 8 rows of 4 k then hit all banks.
template <bool ALONG_K, int SIDE> struct Line { enum { BYTES = ALONG_K ? 64 + 16 : SIDE * SIZE + (SIZE == 4 ? 32 : 16) }; };

// The tiles of an operand, SIDE (BM or BN) x BK, on their way from global to shared memory.
template <bool ALONG_K, bool VECTOR, int SIDE> struct Operand {
    enum {
        PITCH = Line<ALONG_K, SIDE>::BYTES,
        LINE = ALONG_K ? BK : SIDE,
        LINES = ALONG_K ? SIDE : BK,
        BYTES = PITCH * LINES,
        AT_ONCE = VECTOR ? 16 / SIZE : 1,
        STRIDE = THREADS * AT_ONCE / LINE,  // lines from one of a thread's accesses to its next
        HELD = (LINE * LINES) / (THREADS * AT_ONCE),
    };
    static_assert(STRIDE * LINE == THREADS * AT_ONCE && HELD * STRIDE == LINES, "threads share a tile evenly");

    const T* from;
    int line, line_left, lines_left, at;
#if !ASYNC
    T held[HELD * AT_ONCE];
#endif

    __device__ __forceinline__ Operand(const T* x, int outer, int outer_end, int k_end) {
        const int along = threadIdx.x % (LINE / AT_ONCE) * AT_ONCE, across = threadIdx.x / (LINE / AT_ONCE);
        line = ALONG_K ? k_end : outer_end;
        line_left = (ALONG_K ? k_end : outer_end - outer) - along;
        lines_left = (ALONG_K ? outer_end - outer : k_end) - across;
        from = x + (ALONG_K ? (size_t)(outer + across) * line + along : (size_t)across * line + outer + along);
        at = across * PITCH + along * SIZE;
    }

    __device__ __forceinline__ void advance() {
        from += ALONG_K ? BK : BK * (size_t)line;
        if (ALONG_K) line_left -= BK;
        else lines_left -= BK;
    }

#if ASYNC
    // Sends the next tile on its way to shared memory.
    __device__ __forceinline__ void send(unsigned char* to) {
#pragma unroll
        for (int i = 0; i < HELD; ++i)
            copy_async(to + at + i * STRIDE * PITCH, from + i * (size_t)(STRIDE * line), line_left > 0 && i * STRIDE < lines_left);
        advance();
    }
#else
    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            const bool inside = line_left > 0 && i * STRIDE < lines_left;
            if (VECTOR) {
                const Bytes16 bytes = inside ? *(const Bytes16*)(from + i * (size_t)(STRIDE * line)) : Bytes16{{0, 0, 0, 0}};
                memcpy(held + i * AT_ONCE, &bytes, 16);
            } else {
                held[i] = inside ? from[i * (size_t)(STRIDE * line)] : T(0);
            }
        }
        advance();
    }

    __device__ __forceinline__ void deposit(unsigned char* to) const {
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            if (VECTOR) {
                Bytes16 bytes;
                memcpy(&bytes, held + i * AT_ONCE, 16);
                *(Bytes16*)(to + at + i * STRIDE * PITCH) = bytes;
            } else {
                *(T*)(to + at + i * STRIDE * PITCH) = held[i];
            }
        }
    }
#endif
};
