// A warp's part of a product on tensor cores from sm_75 on: WM x WN, in instructions of 16 x 8 and 32 bytes along k.
//
// All of them take words of 32 bits along k, which ldmatrix delivers for every dtype where lines run along k; where they run across, it
// transposes elements of 16 bits, words of TF32 are read one by one, and int8 is refused.

#if DTYPE == INT8
DEVICE void mma(int c[4], const unsigned a[4], const unsigned b[2]) { mma_int8(c, a, b); }
#elif DTYPE == TF32
DEVICE void mma(float c[4], const unsigned a[4], const unsigned b[2]) { mma_tf32(c, a, b); }
#elif DTYPE == FP16
DEVICE void mma(float c[4], const unsigned a[4], const unsigned b[2]) { mma_fp16(c, a, b); }
#else
DEVICE void mma(float c[4], const unsigned a[4], const unsigned b[2]) { mma_bf16(c, a, b); }
#endif

DEVICE unsigned word(const unsigned char* at) { return *(const unsigned*)at; }

// Rows `row` to `row + 15` of A at the k-th instruction along k of the tile.
DEVICE void load_a(unsigned a[4], const unsigned char* tile, int row, int k) {
    enum { PITCH = Line<!A_TRANSPOSED, BM>::BYTES };
    const int lane = threadIdx.x % 32;
    if (!A_TRANSPOSED) {
        load_matrices(a, tile + (row + lane % 16) * PITCH + k * 32 + lane / 16 * 16);
    } else if (SIZE == 2) {
        load_matrices_transposed(a, tile + (k * STEP + lane / 16 * 8 + lane % 8) * PITCH + (row + lane / 8 % 2 * 8) * SIZE);
    } else {
        const unsigned char* at = tile + (k * STEP + lane % 4) * PITCH + (row + lane / 4) * SIZE;
        a[0] = word(at), a[1] = word(at + 8 * SIZE), a[2] = word(at + 4 * PITCH), a[3] = word(at + 4 * PITCH + 8 * SIZE);
    }
}

// Columns `column` to `column + 15` of B: two operands of 8 columns.
DEVICE void load_b(unsigned b[4], const unsigned char* tile, int column, int k) {
    enum { PITCH = Line<B_TRANSPOSED, BN>::BYTES };
    const int lane = threadIdx.x % 32;
    if (B_TRANSPOSED) {
        load_matrices(b, tile + (column + lane / 16 * 8 + lane % 8) * PITCH + k * 32 + lane / 8 % 2 * 16);
    } else if (SIZE == 2) {
        load_matrices_transposed(b, tile + (k * STEP + lane % 16) * PITCH + (column + lane / 16 * 8) * SIZE);
    } else {
        const unsigned char* at = tile + (k * STEP + lane % 4) * PITCH + (column + lane / 4) * SIZE;
        b[0] = word(at), b[1] = word(at + 4 * PITCH), b[2] = word(at + 8 * SIZE), b[3] = word(at + 4 * PITCH + 8 * SIZE);
    }
}

struct Sums { Sum x[WM / 16][WN / 8][4]; };

DEVICE void multiply(Sums& sums, const unsigned char* tile_a, const unsigned char* tile_b, int row, int column) {
#pragma unroll
    for (int k = 0; k < BK / STEP; ++k) {
        unsigned a[WM / 16][4], b[WN / 16][4];
#pragma unroll
        for (int i = 0; i < WM / 16; ++i) load_a(a[i], tile_a, row + 16 * i, k);
#pragma unroll
        for (int j = 0; j < WN / 16; ++j) load_b(b[j], tile_b, column + 16 * j, k);
#pragma unroll
        for (int i = 0; i < WM / 16; ++i)
#pragma unroll
            for (int j = 0; j < WN / 8; ++j) mma(sums.x[i][j], a[i], b[j / 2] + j % 2 * 2);
    }
}

// Calls store(row, column, x, y) for every two neighbours in a row that the thread holds.
template <class Store> DEVICE void for_each_pair(const Sums& sums, Store store) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < WM / 16; ++i)
#pragma unroll
        for (int j = 0; j < WN / 8; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                store(16 * i + 8 * half + lane / 4, 8 * j + lane % 4 * 2, sums.x[i][j][2 * half], sums.x[i][j][2 * half + 1]);
}
