// Read, copy, scale and triad of `elements` numbers, 16 bytes to an access, LOADS of them under way in each thread.
//
// Defined before: T, the C type of an element; BITS_OF, FP16 or BF16 where T holds the bits of such a number, else 0; THREADS, in a block;
// LOADS. Blocks stride over the arrays; the elements after the last whole 16 bytes are done one by one by the last block.

#define FP16 1
#define BF16 2

#if BITS_OF == BF16
typedef float Number;
DEVICE Number number(T bits) { return bf16_to_float(bits); }
DEVICE T element(Number x) { return float_to_bf16(x); }
#elif BITS_OF == FP16
typedef float Number;
DEVICE Number number(T bits) { return fp16_to_float(bits); }
DEVICE T element(Number x) { return float_to_fp16(x); }
#else
typedef T Number;
DEVICE Number number(T x) { return x; }
DEVICE T element(Number x) { return x; }
#endif

enum { WIDTH = 16 / sizeof(T) };

struct Pack { T x[WIDTH]; };

DEVICE Pack unpacked(Bytes16 bytes) {
    Pack pack;
    memcpy(&pack, &bytes, 16);
    return pack;
}

DEVICE Bytes16 packed(Pack pack) {
    Bytes16 bytes;
    memcpy(&bytes, &pack, 16);
    return bytes;
}

struct Copy {
    enum { INPUTS = 1 };
    DEVICE T of(T a, T, Number) { return a; }
};

struct Scale {
    enum { INPUTS = 1 };
    DEVICE T of(T a, T, Number scalar) { return element(scalar * number(a)); }
};

struct Triad {
    enum { INPUTS = 2 };
    DEVICE T of(T a, T b, Number scalar) { return element(number(a) + scalar * number(b)); }
};

template <class Operation> DEVICE void stream(const T* a, const T* b, T* c, Number scalar, size_t elements) {
    const Bytes16 *as = (const Bytes16*)a, *bs = (const Bytes16*)b;
    Bytes16* cs = (Bytes16*)c;
    const size_t packs = elements / WIDTH, step = (size_t)gridDim.x * THREADS * LOADS;
    for (size_t first = (size_t)blockIdx.x * THREADS * LOADS + threadIdx.x; first < packs; first += step) {
        Bytes16 x[LOADS], y[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; ++i)
            if (first + i * THREADS < packs) {
                x[i] = load_once(as + first + i * THREADS);
                if (Operation::INPUTS == 2) y[i] = load_once(bs + first + i * THREADS);
            }
#pragma unroll
        for (int i = 0; i < LOADS; ++i)
            if (first + i * THREADS < packs) {
                const Pack p = unpacked(x[i]), q = unpacked(Operation::INPUTS == 2 ? y[i] : x[i]);
                Pack r;
#pragma unroll
                for (int j = 0; j < WIDTH; ++j) r.x[j] = Operation::of(p.x[j], q.x[j], scalar);
                store_once(cs + first + i * THREADS, packed(r));
            }
    }
    const size_t rest = packs * WIDTH + threadIdx.x;
    if (blockIdx.x == gridDim.x - 1 && rest < elements) c[rest] = Operation::of(a[rest], b[rest], scalar);
}

extern "C" __global__ void __launch_bounds__(THREADS) copy(const T* a, T* c, size_t elements) {
    stream<Copy>(a, a, c, 0, elements);
}

extern "C" __global__ void __launch_bounds__(THREADS) scale(const T* a, T* c, Number scalar, size_t elements) {
    stream<Scale>(a, a, c, scalar, elements);
}

extern "C" __global__ void __launch_bounds__(THREADS) triad(const T* a, const T* b, T* c, Number scalar, size_t elements) {
    stream<Triad>(a, b, c, scalar, elements);
}

// sums[block] = the sum of what the block reads. Four chains of additions, so that none waits for the last.
extern "C" __global__ void __launch_bounds__(THREADS, 1) read(const T* a, Number* sums, size_t elements) {
    const Bytes16* as = (const Bytes16*)a;
    const size_t packs = elements / WIDTH, step = (size_t)gridDim.x * THREADS * LOADS;
    Number chains[LOADS] = {};
    for (size_t first = (size_t)blockIdx.x * THREADS * LOADS + threadIdx.x; first < packs; first += step) {
        Bytes16 x[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; ++i) x[i] = first + i * THREADS < packs ? load_once(as + first + i * THREADS) : Bytes16{{0, 0, 0, 0}};
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            const Pack p = unpacked(x[i]);
#pragma unroll
            for (int j = 0; j < WIDTH; ++j) chains[i] += number(p.x[j]);
        }
    }
    const size_t rest = packs * WIDTH + threadIdx.x;
    if (blockIdx.x == gridDim.x - 1 && rest < elements) chains[0] += number(a[rest]);

    extern __shared__ __align__(128) unsigned char shared_memory[];
    Number* const shared = (Number*)shared_memory;
    Number sum = 0;
#pragma unroll
    for (int i = 0; i < LOADS; ++i) sum += chains[i];
    shared[threadIdx.x] = sum;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    }
    if (threadIdx.x == 0) sums[blockIdx.x] = shared[0];
}
