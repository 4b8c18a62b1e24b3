// What our kernels need beyond C++: one function for each instruction. Put before every kernel by program.py.
//
// Inline PTX instead of cuda_fp16.h and mma.h: NVRTC has no headers of its own, its pip wheels bring none, and which ones CuPy can find
// differs between its releases 11 to 14. PTX is the same in all of them. `tests/kernels/cuda_on_cpu.h` implements the same functions
// for a CPU; kernels use no other intrinsics than these, __syncthreads, threadIdx, blockIdx and gridDim.

#define DEVICE static __device__ __forceinline__

struct alignas(16) Bytes16 { unsigned word[4]; };

// ---- bf16, kept as its bits

DEVICE float bf16_to_float(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

DEVICE unsigned short float_to_bf16(float x) {
    unsigned short bits;
#if __CUDA_ARCH__ >= 800
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    const unsigned word = __float_as_uint(x);
    bits = x != x ? 0x7fff : (unsigned short)((word + 0x7fff + (word >> 16 & 1)) >> 16);
#endif
    return bits;
}

// ---- Global memory, for data that is touched once. On ROCm the plain access.

#if defined(__HIP__) || defined(__HIPCC__) || defined(__HIPCC_RTC__)
DEVICE Bytes16 load_once(const Bytes16* from) { return *from; }
DEVICE void store_once(Bytes16* to, Bytes16 value) { *to = value; }
DEVICE float fp16_to_float(unsigned short bits) { return (float)__builtin_bit_cast(_Float16, bits); }
DEVICE unsigned short float_to_fp16(float x) { return __builtin_bit_cast(unsigned short, (_Float16)x); }
#else
DEVICE Bytes16 load_once(const Bytes16* from) {
    Bytes16 x;
#if __CUDA_ARCH__ >= 700  // eviction priorities came with sm_70
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3]) : "l"(from));
#else
    asm("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.word[0]), "=r"(x.word[1]), "=r"(x.word[2]), "=r"(x.word[3]) : "l"(from));
#endif
    return x;
}

DEVICE void store_once(Bytes16* to, Bytes16 x) {
    asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(to), "r"(x.word[0]), "r"(x.word[1]), "r"(x.word[2]), "r"(x.word[3]) : "memory");
}

// ---- fp16, kept as its bits

DEVICE float fp16_to_float(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

DEVICE unsigned short float_to_fp16(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// Two of them in a word, the first in the low half.
DEVICE unsigned pack_fp16(float low, float high) {
    return (unsigned)float_to_fp16(low) | (unsigned)float_to_fp16(high) << 16;
}

DEVICE unsigned pack_bf16(float low, float high) {
    return (unsigned)float_to_bf16(low) | (unsigned)float_to_bf16(high) << 16;
}

// Two products and two sums in fp16, each rounded once: twice the rate of fp32 on sm_53, sm_60 and sm_62.
DEVICE unsigned fma_2fp16(unsigned a, unsigned b, unsigned c) {
    unsigned d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// ---- Warps

// Until all lanes are here and see what the others wrote to shared memory.
DEVICE void warp_barrier() { __syncwarp(); }

DEVICE float shuffle_xor(float x, int lanes) { return __shfl_xor_sync(0xffffffffu, x, lanes); }

// ---- Copies from global to shared memory that a thread does not wait for (sm_80). Not `valid`: zeros are written, nothing is read.

#if __CUDA_ARCH__ >= 800
DEVICE void copy_async(void* shared, const void* global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((unsigned)__cvta_generic_to_shared(shared)), "l"(global), "r"(valid ? 16 : 0) : "memory");
}

DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most GROUPS of this thread's committed groups are under way.
template <int GROUPS> DEVICE void copies_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory"); }
#else
DEVICE void copies_commit() {}
template <int GROUPS> DEVICE void copies_wait() {}
#endif

// ---- Tensor cores from sm_75 on. All instructions see words of 32 bits: two 16-bit floats, one TF32 or four int8, along k.

#if __CUDA_ARCH__ >= 750
// Four 8 x 8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, and gets of each its element pair
// (l / 4, 2 (l % 4)), or of the transposed matrix.
DEVICE void load_matrices(unsigned r[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

DEVICE void load_matrices_transposed(unsigned r[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

// c (16 x 8) += a (16 x 32 bytes) times b (32 bytes x 8). With g = lane / 4 and t = lane % 4, a holds of rows g, g + 8, g, g + 8 the
// words t, t, t + 4, t + 4 along k; b of column g the words t, t + 4; c the elements (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
DEVICE void mma_fp16(float c[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int half = 0; half < 2; ++half)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}

DEVICE void mma_int8(int c[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    for (int i = 0; i < 4; ++i)  // rows g (even i) and g + 8, the first 16 bytes along k and the second
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                     : "+r"(c[2 * (i % 2)]), "+r"(c[2 * (i % 2) + 1]) : "r"(a[i]), "r"(b[i / 2]));
#endif
}
#endif

#if __CUDA_ARCH__ >= 800
DEVICE void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void mma_tf32(float c[4], const unsigned a[4], const unsigned b[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

// ---- Tensor cores of sm_70: four quad pairs (lanes 4 q to 4 q + 3 and those 16 above) multiply 8 x 4 by 4 x 8 each, fp16 to fp32.
// With i = 0 to 3 the lane's four elements, two to a word, and above = 4 in lanes 16 and up, else 0:
//   A by row: (lane % 4 + above, i); by column: (i + above, lane % 4). B by row: (lane % 4, i + above); by column: (i, lane % 4 + above).
//   C: (lane % 2 + (i & 2) + above, (i & 4) + (lane & 2) + i % 2) with i = 0 to 7.

#if __CUDA_ARCH__ == 700 || __CUDA_ARCH__ == 720
#define MMA_884(A_ORDER, B_ORDER)                                                                                                     \
    asm volatile("mma.sync.aligned.m8n8k4." A_ORDER "." B_ORDER ".f32.f16.f16.f32 "                                                     \
                 "{%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9}, {%10, %11}, {%0, %1, %2, %3, %4, %5, %6, %7};"                             \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7])                        \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]))

template <bool A_BY_ROW, bool B_BY_ROW> DEVICE void mma_quad_pairs(float c[8], const unsigned a[2], const unsigned b[2]) {
    if (A_BY_ROW && B_BY_ROW) MMA_884("row", "row");
    else if (A_BY_ROW) MMA_884("row", "col");
    else if (B_BY_ROW) MMA_884("col", "row");
    else MMA_884("col", "col");
}
#endif
#endif
