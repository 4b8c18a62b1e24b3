// A warp's part of a product on the tensor cores of sm_70: WM x WN, fp16 only.
//
// One instruction multiplies four pairs of 8 x 4 and 4 x 8, one for each quad pair of lanes (`intrinsics.cu` has the layout). The quad pairs
// share 16 x 16 of C two by two. Of these 16 rows quad pair `side` computes 4 side to 4 side + 3 and those 8 below, and columns alike: so the
// 8 lanes that read 16 bytes at once read 8 neighbouring lines, which hit all banks.

struct Sums { float x[WM / 16][WN / 16][8]; };

DEVICE int above() { return threadIdx.x % 32 < 16 ? 0 : 4; }

// The words of an operand, for the first and the second 4 along k of the k-th 8: of its 8 rows (columns) from those at `at` on.
template <bool ALONG_K, int SIDE> DEVICE void load(unsigned x[2][2], const unsigned char* tile, int at, int side, int k) {
    enum { PITCH = Line<ALONG_K, SIDE>::BYTES };
    const int lane = threadIdx.x % 32, o = at + 4 * side + 2 * above();
    if (ALONG_K) {
        const Bytes16 words = *(const Bytes16*)(tile + (o + lane % 4) * PITCH + k * 16);
        x[0][0] = words.word[0], x[0][1] = words.word[1], x[1][0] = words.word[2], x[1][1] = words.word[3];
    } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const unsigned char* from = tile + (8 * k + 4 * half + lane % 4) * PITCH + o * SIZE;
            memcpy(x[half], __builtin_assume_aligned(from, 8), 8);
        }
    }
}

DEVICE void multiply(Sums& sums, const unsigned char* tile_a, const unsigned char* tile_b, int row, int column) {
    const int quad_pair = threadIdx.x % 16 / 4;
#pragma unroll
    for (int k = 0; k < BK / 8; ++k) {
        unsigned a[WM / 16][2][2], b[WN / 16][2][2];
#pragma unroll
        for (int i = 0; i < WM / 16; ++i) load<!A_TRANSPOSED, BM>(a[i], tile_a, row + 16 * i, quad_pair % 2, k);
#pragma unroll
        for (int j = 0; j < WN / 16; ++j) load<B_TRANSPOSED, BN>(b[j], tile_b, column + 16 * j, quad_pair / 2, k);
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 16; ++j) mma_quad_pairs<!A_TRANSPOSED, !B_TRANSPOSED>(sums.x[i][j], a[i][half], b[j][half]);
    }
}

// Calls store(row, column, x, y) for every two neighbours in a row that the thread holds.
template <class Store> DEVICE void for_each_pair(const Sums& sums, Store store) {
    const int lane = threadIdx.x % 32, row = lane % 2 + 4 * (lane / 4 % 2) + 2 * above(), column = (lane & 2) + 4 * (lane / 8 % 2);
#pragma unroll
    for (int i = 0; i < WM / 16; ++i)
#pragma unroll
        for (int j = 0; j < WN / 16; ++j)
#pragma unroll
            for (int x = 0; x < 8; x += 2)
                store(16 * i + row + (x & 2), 16 * j + column + 2 * (x & 4), sums.x[i][j][x], sums.x[i][j][x + 1]);
}
