// C (m x n) = A (m x k) B (k x n) without tensor cores: fp64, fp32, and fp16 either with sums in fp32 or, HALF2, in fp16 pairs.
//
// A block of 256 threads computes 128 x 128 of C, a thread 8 x 8 of it, from two buffers of BK along k in shared memory: while one is
// multiplied, the next is on its way from global memory in registers.
//
// Defined before: DTYPE, 64, 32 or 16; HALF2, the length of the chains of sums in fp16 before they are added up in fp32, or 0;
// A_TRANSPOSED (A is stored k x m), B_TRANSPOSED (n x k); A_VECTOR, B_VECTOR, C_VECTOR, 1 where rows in memory are whole multiples of 16
// bytes; BK.

#if DTYPE == 64
typedef double T;
typedef double Sum;
#elif DTYPE == 32
typedef float T;
typedef float Sum;
#else
typedef unsigned short T;
typedef float Sum;
#endif

// What lies in shared memory. HALF2: an element of A twice in a word, to meet two of B.
#if HALF2
typedef unsigned SharedA;
typedef unsigned short SharedB;
DEVICE SharedA shared_a(T x) { return (unsigned)x | (unsigned)x << 16; }
DEVICE SharedB shared_b(T x) { return x; }
#else
typedef Sum SharedA;
typedef Sum SharedB;
#if DTYPE == 16
DEVICE Sum shared_a(T x) { return fp16_to_float(x); }
#else
DEVICE Sum shared_a(T x) { return x; }
#endif
DEVICE Sum shared_b(T x) { return shared_a(x); }
#endif

#if DTYPE == 16
DEVICE T result(Sum x) { return float_to_fp16(x); }
#else
DEVICE T result(Sum x) { return x; }
#endif

enum {
    THREADS = 256,
    SIDE = 128,
    EACH = 8,                       // rows and columns of a thread
    WIDTH = 16 / sizeof(T),         // elements in 16 bytes
    HELD = SIDE * BK / THREADS,     // elements of each of A and B that a thread brings
    RUN = 16 / sizeof(Sum),         // neighbouring rows, or columns, of a thread: what it reads from shared memory at once
    PITCH = SIDE + 4,               // of shared memory: 4 more, so that the 4 rows that a warp writes at once hit other banks
};

// The tile of 128 x BK of an operand from `outer` (along m or n) on. ALONG_K: neighbours in memory are neighbours along k.
// A thread brings HELD elements: one, or with VECTOR 16 bytes, at (o, k) and more at equal distances along the other side.
template <bool ALONG_K, bool VECTOR> struct Operand {
    enum {
        AT_ONCE = VECTOR ? WIDTH : 1,
        LINE = ALONG_K ? BK : SIDE,            // elements of the tile that are neighbours in memory
        STRIDE = THREADS * AT_ONCE / LINE,     // lines from one of a thread's accesses to its next
    };
    const T* from;
    int line;  // elements of a line of the whole operand in memory
    int o, k, outer_left, k_left;
    T held[HELD];

    __device__ __forceinline__ Operand(const T* x, int outer, int outer_end, int k_end) {
        const int along = threadIdx.x % (LINE / AT_ONCE) * AT_ONCE, across = threadIdx.x / (LINE / AT_ONCE);
        o = ALONG_K ? across : along, k = ALONG_K ? along : across;
        outer_left = outer_end - outer - o, k_left = k_end - k;
        line = ALONG_K ? k_end : outer_end;
        from = x + (ALONG_K ? (size_t)(outer + o) * line + k : (size_t)k * line + outer + o);
    }

    // The next tile along k.
    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int i = 0; i < HELD / AT_ONCE; ++i) {
            const bool inside = ALONG_K ? i * STRIDE < outer_left && 0 < k_left : 0 < outer_left && i * STRIDE < k_left;
            if (VECTOR) {
                const Bytes16 bytes = inside ? *(const Bytes16*)(from + i * (size_t)(STRIDE * line)) : Bytes16{{0, 0, 0, 0}};
                memcpy(held + i * AT_ONCE, &bytes, 16);
            } else {
                held[i] = inside ? from[i * (size_t)(STRIDE * line)] : T(0);
            }
        }
        from += ALONG_K ? BK : BK * (size_t)line, k_left -= BK;
    }

    template <class Shared, class Convert> __device__ __forceinline__ void deposit(Shared (*to)[PITCH], Convert convert) const {
#pragma unroll
        for (int i = 0; i < HELD; ++i) {
            const int across = i / AT_ONCE * STRIDE, along = i % AT_ONCE;
            to[k + (ALONG_K ? along : across)][o + (ALONG_K ? across : along)] = convert(held[i]);
        }
    }
};

// A thread's rows (or columns) are runs of RUN neighbours, the runs spread over the tile, so that a warp reads without bank conflicts.
DEVICE int spread(int thread, int i) { return i / RUN * (SIDE * RUN / EACH) + thread * RUN + i % RUN; }

struct alignas(16) RunA { SharedA x[RUN]; };
struct alignas(RUN * sizeof(SharedB)) RunB { SharedB x[RUN]; };
struct alignas(RUN * sizeof(T)) RunC { T x[RUN]; };

DEVICE void multiply(Sum (*sums)[EACH], const SharedA (*a)[PITCH], const SharedB (*b)[PITCH], int row, int column) {
#if HALF2
    unsigned pairs[EACH][EACH / 2];
#pragma unroll
#else
#pragma unroll 2  // more, and compilers fetch so far ahead that registers spill
#endif
    for (int k = 0; k < BK; ++k) {
        SharedA as[EACH];
        SharedB bs[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i += RUN) {
            const RunA run_a = *(const RunA*)(a[k] + spread(row, i));
            const RunB run_b = *(const RunB*)(b[k] + spread(column, i));
#pragma unroll
            for (int j = 0; j < RUN; ++j) as[i + j] = run_a.x[j], bs[i + j] = run_b.x[j];
        }
#pragma unroll
        for (int i = 0; i < EACH; ++i) {
#if HALF2
#pragma unroll
            for (int j = 0; j < EACH; j += 2) {
                const unsigned b_pair = (unsigned)bs[j] | (unsigned)bs[j + 1] << 16;
                pairs[i][j / 2] = fma_2fp16(as[i], b_pair, k % HALF2 == 0 ? 0 : pairs[i][j / 2]);
                if (k % HALF2 == HALF2 - 1) {
                    sums[i][j] += fp16_to_float((unsigned short)pairs[i][j / 2]);
                    sums[i][j + 1] += fp16_to_float((unsigned short)(pairs[i][j / 2] >> 16));
                }
            }
#else
#pragma unroll
            for (int j = 0; j < EACH; ++j) sums[i][j] += as[i] * bs[j];
#endif
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, DTYPE == 64 || HALF2 ? 1 : 2) matmul(const T* a, const T* b, T* c, int m, int n, int k) {
    extern __shared__ __align__(128) unsigned char shared_memory[];
    typedef SharedA TileA[BK][PITCH];
    typedef SharedB TileB[BK][PITCH];
    TileA* as = (TileA*)shared_memory;
    TileB* bs = (TileB*)(shared_memory + 2 * sizeof(TileA));

    const Tile tile = tile_of(blockIdx.x, (m + SIDE - 1) / SIDE, (n + SIDE - 1) / SIDE);
    // A warp is 4 x 8 threads: it reads 16 bytes of 4 rows of A and of 8 columns of B, no bank twice.
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int row = warp / 2 * 4 + lane / 8, column = warp % 2 * 8 + lane % 8;

    Operand<!A_TRANSPOSED, A_VECTOR> next_a(a, tile.row * SIDE, m, k);
    Operand<B_TRANSPOSED, B_VECTOR> next_b(b, tile.column * SIDE, n, k);
    Sum sums[EACH][EACH] = {};
    next_a.fetch();
    next_b.fetch();
    next_a.deposit(as[0], shared_a);
    next_b.deposit(bs[0], shared_b);
    __syncthreads();
    int buffer = 0;
    for (int at = 0; at < k; at += BK, buffer ^= 1) {
        const bool more = at + BK < k;
        if (more) {
            next_a.fetch();
            next_b.fetch();
        }
        multiply(sums, as[buffer], bs[buffer], row, column);
        if (more) {  // into the buffer that all have finished reading: they have passed the last barrier
            next_a.deposit(as[buffer ^ 1], shared_a);
            next_b.deposit(bs[buffer ^ 1], shared_b);
            __syncthreads();
        }
    }

#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int r = tile.row * SIDE + spread(row, i);
        if (r >= m) continue;
#pragma unroll
        for (int j = 0; j < EACH; j += RUN) {
            const int s = tile.column * SIDE + spread(column, j);
            T* to = c + (size_t)r * n + s;
            RunC run;
#pragma unroll
            for (int x = 0; x < RUN; ++x) run.x[x] = result(sums[i][j + x]);
            if (C_VECTOR) {
                if (s < n) *(RunC*)to = run;
            } else {
#pragma unroll
                for (int x = 0; x < RUN; ++x)
                    if (s + x < n) to[x] = run.x[x];
            }
        }
    }
}
