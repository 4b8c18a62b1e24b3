// C (m x n) = A (m x k) B (k x n) on tensor cores: a block computes BM x BN of C, a warp WM x WN of it.
//
// Tiles of 64 bytes along k pass through STAGES buffers in shared memory (`mma_operand.cu`, which says what is defined before) and are
// multiplied by the warp's instructions (`mma_warp.cu`, `mma_warp_volta.cu`).

extern "C" __global__ void __launch_bounds__(THREADS) matmul(const T* a, const T* b, Result* c, int m, int n, int k) {
    extern __shared__ __align__(128) unsigned char shared_memory[];
    typedef Operand<!A_TRANSPOSED, A_VECTOR, BM> A;
    typedef Operand<B_TRANSPOSED, B_VECTOR, BN> B;
    enum { STAGE = A::BYTES + B::BYTES };

    const Tile tile = tile_of(blockIdx.x, (m + BM - 1) / BM, (n + BN - 1) / BN);
    const int warp = threadIdx.x / 32, row = warp / WARPS_N * WM, column = warp % WARPS_N * WN;
    A next_a(a, tile.row * BM, m, k);
    B next_b(b, tile.column * BN, n, k);
    const auto buffer = [&](int i) { return shared_memory + i % STAGES * STAGE; };
    Sums sums = {};

    const int tiles = (k + BK - 1) / BK;
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) {
#if ASYNC
        if (i < tiles) {
            next_a.send(buffer(i));
            next_b.send(buffer(i) + A::BYTES);
        }
        copies_commit();
#else
        next_a.fetch();
        next_b.fetch();
        next_a.deposit(buffer(i));
        next_b.deposit(buffer(i) + A::BYTES);
#endif
    }
    for (int i = 0; i < tiles; ++i) {
        copies_wait<STAGES - 2>();
        __syncthreads();  // tile i is here for all, and all have finished with the buffer of tile i - 1, which is filled next
        unsigned char* const next = buffer(i + STAGES - 1);
        const bool more = i + STAGES - 1 < tiles;
#if ASYNC
        if (more) {
            next_a.send(next);
            next_b.send(next + A::BYTES);
        }
        copies_commit();
#else
        if (more) {
            next_a.fetch();
            next_b.fetch();
        }
#endif
        multiply(sums, buffer(i), buffer(i) + A::BYTES, row, column);
#if !ASYNC
        if (more) {
            next_a.deposit(next);
            next_b.deposit(next + A::BYTES);
        }
#endif
    }

    for_each_pair(sums, [&](int i, int j, Sum x, Sum y) {
        const int r = tile.row * BM + row + i, s = tile.column * BN + column + j;
        if (r >= m) return;
        Result* to = c + (size_t)r * n + s;
        if (s < n) to[0] = result(x);
        if (s + 1 < n) to[1] = result(y);
    });
}
