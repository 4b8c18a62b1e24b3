// CUDA on a CPU, for tests: the threads of a block are fibers of one thread that switch where they wait for each other, and the
// functions of intrinsics.cu are written out in C++ after the fragment layouts that the PTX ISA documents (chapter "Warp-level matrix
// instructions"). Strict where hardware is lenient: shared memory starts as NaN in every block, copies arrive only when they are waited
// for, each thread runs as far ahead of the others as barriers let it (in both orders of threads), and a barrier that some thread
// never reaches is an error.

#include <signal.h>
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <tuple>
#include <utility>
#include <vector>

#define read kernel_read  // which the system's headers declare otherwise
#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define DEVICE static inline

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

constexpr unsigned WARP = 32;
constexpr size_t STACK_BYTES = 64 * 1024, SHARED_BYTES = 256 * 1024;
constexpr unsigned char POISON = 0xff;  // a NaN in every float format

struct Copy { unsigned char* to; const unsigned char* from; bool valid; };

struct Fiber {
    ucontext_t context;
    std::vector<unsigned char> stack = std::vector<unsigned char>(STACK_BYTES);
    bool done = false;
    unsigned collectives = 0;  // so many warp-wide instructions it has come through
    std::vector<Copy> copies;
    std::deque<std::vector<Copy>> groups;
};

struct Barrier {
    unsigned arrived = 0, generation = 0;
};

struct Slots { uint64_t word[2][WARP][8]; };  // what the lanes hand each other, for this and the last collective

static std::vector<Fiber> fibers;
static std::vector<Barrier> warp_barriers;
static std::vector<Slots> slots;
static Barrier block_barrier;
static ucontext_t host;
static unsigned current, alive, idle_switches;
static int step;
static const char* problem;
static void (*body)();

static void fail(const char* what) {
    problem = what;
    swapcontext(&fibers[current].context, &host);
}

// The next thread that still runs, or the host when none does.
static void yield() {
    const unsigned count = (unsigned)fibers.size(), from = current;
    if (++idle_switches > 4 * count + 4) fail("threads wait at a barrier that others never reach");
    for (unsigned tried = 0; tried < count; ++tried) {
        current = (current + count + step) % count;
        if (!fibers[current].done) break;
    }
    if (current == from) return;
    threadIdx.x = current;
    swapcontext(&fibers[from].context, &fibers[current].context);
    threadIdx.x = current = from;
}

static void wait_at(Barrier& barrier, unsigned expected) {
    idle_switches = 0;
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        ++barrier.generation;
        return;
    }
    while (barrier.generation == generation) yield();
}

static void run_fiber() {
    body();
    Fiber& self = fibers[current];
    self.done = true;
    --alive;
    idle_switches = 0;
    if (block_barrier.arrived) fail("a thread returned while others wait at __syncthreads");
    if (alive == 0) swapcontext(&self.context, &host);
    for (;;) yield();
}

static unsigned lane() { return threadIdx.x % WARP; }

// Hands `count` words to the warp and returns what all its lanes handed over: one warp-wide instruction.
static uint64_t (*exchange(const uint64_t* words, unsigned count))[8] {
    const unsigned warp = threadIdx.x / WARP, turn = fibers[current].collectives++ % 2;
    for (unsigned i = 0; i < count; ++i) slots[warp].word[turn][lane()][i] = words[i];
    wait_at(warp_barriers[warp], WARP);
    return slots[warp].word[turn];
}

static void run_copies(Fiber& fiber) {
    for (const Copy& copy : fiber.groups.front()) {
        if (copy.valid) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    }
    fiber.groups.pop_front();
}

}  // namespace on_cpu

alignas(128) unsigned char shared_memory[on_cpu::SHARED_BYTES];

static inline void __syncthreads() { on_cpu::wait_at(on_cpu::block_barrier, (unsigned)on_cpu::fibers.size()); }

// ---- intrinsics.cu again

struct alignas(16) Bytes16 { unsigned word[4]; };

DEVICE Bytes16 load_once(const Bytes16* from) { return *from; }
DEVICE void store_once(Bytes16* to, Bytes16 value) { *to = value; }

DEVICE float __uint_as_float(unsigned word) { float x; memcpy(&x, &word, 4); return x; }
DEVICE unsigned __float_as_uint(float x) { unsigned word; memcpy(&word, &x, 4); return word; }

DEVICE float fp16_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                                      : std::ldexp(exponent ? 1024.0f + fraction : (float)fraction, (exponent ? exponent : 1) - 25);
    return bits >> 15 ? -size : size;
}

// Rounds to nearest, ties to even, from a double: also what a fused multiply-add needs.
DEVICE unsigned short double_to_fp16(double x) {
    const unsigned short sign = std::signbit(x) ? 0x8000 : 0;
    const double size = std::fabs(x);
    if (size != size) return 0x7fff;
    if (size >= 65520.0) return sign | 0x7c00;
    int exponent = 0;
    std::frexp(size, &exponent);
    const int scale = size < 1.0 / 16384 ? -24 : exponent - 11;  // the unit in the last place
    const double units = std::nearbyint(std::ldexp(size, -scale));
    const unsigned rounded = (unsigned)units;
    if (size < 1.0 / 16384) return sign | (unsigned short)rounded;  // subnormal, or the smallest normal by carry
    const unsigned up = rounded == 2048 ? 1 : 0;
    return sign | (unsigned short)(((scale + 25 + up) << 10) | ((up ? 1024 : rounded) & 1023));
}

DEVICE unsigned short float_to_fp16(float x) { return double_to_fp16(x); }

DEVICE float bf16_to_float(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

DEVICE unsigned short float_to_bf16(float x) {
    const unsigned word = __float_as_uint(x);
    return x != x ? 0x7fff : (unsigned short)((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

DEVICE unsigned pack_fp16(float low, float high) { return float_to_fp16(low) | (unsigned)float_to_fp16(high) << 16; }
DEVICE unsigned pack_bf16(float low, float high) { return float_to_bf16(low) | (unsigned)float_to_bf16(high) << 16; }

DEVICE unsigned fma_2fp16(unsigned a, unsigned b, unsigned c) {
    unsigned d = 0;
    for (int half = 0; half < 2; ++half) {
        const auto part = [half](unsigned word) { return (double)fp16_to_float((unsigned short)(word >> 16 * half)); };
        d |= (unsigned)double_to_fp16(part(a) * part(b) + part(c)) << 16 * half;
    }
    return d;
}

DEVICE float exp2_fast(float x) { return std::exp2(x); }

DEVICE void warp_barrier() { on_cpu::exchange(nullptr, 0); }

DEVICE float shuffle_xor(float x, int lanes) {
    const uint64_t word = __float_as_uint(x);
    return __uint_as_float((unsigned)on_cpu::exchange(&word, 1)[on_cpu::lane() ^ lanes][0]);
}

#if __CUDA_ARCH__ >= 800
DEVICE void copy_async(void* to, const void* from, bool valid) {
    on_cpu::fibers[on_cpu::current].copies.push_back({(unsigned char*)to, (const unsigned char*)from, valid});
}
DEVICE void copies_commit() {
    on_cpu::Fiber& self = on_cpu::fibers[on_cpu::current];
    self.groups.push_back(std::move(self.copies));
    self.copies.clear();
}
template <int GROUPS> DEVICE void copies_wait() {
    on_cpu::Fiber& self = on_cpu::fibers[on_cpu::current];
    while (self.groups.size() > GROUPS) on_cpu::run_copies(self);
}
#else
DEVICE void copies_commit() {}
template <int GROUPS> DEVICE void copies_wait() {}
#endif

#if __CUDA_ARCH__ >= 750
DEVICE void matrices(unsigned r[4], const void* row, bool transposed) {
    if ((uintptr_t)row % 16) on_cpu::fail("ldmatrix from an address that is not a multiple of 16");
    const uint64_t address = (uintptr_t)row;
    const auto rows = on_cpu::exchange(&address, 1);
    const unsigned g = on_cpu::lane() / 4, t = on_cpu::lane() % 4;
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
        r[matrix] = 0;
        for (unsigned j = 0; j < 2; ++j) {
            const unsigned i = transposed ? 2 * t + j : g, k = transposed ? g : 2 * t + j;
            r[matrix] |= (unsigned)((const unsigned short*)(uintptr_t)rows[8 * matrix + i][0])[k] << 16 * j;
        }
    }
}
DEVICE void load_matrices(unsigned r[4], const void* row) { matrices(r, row, false); }
DEVICE void load_matrices_transposed(unsigned r[4], const void* row) { matrices(r, row, true); }

// Calls add(i, a word of row, b word of column) for each of the lane's four elements and each of the eight words along k.
template <class Add> DEVICE void mma_words(const unsigned a[4], const unsigned b[2], Add add) {
    const uint64_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const auto all = on_cpu::exchange(words, 6);
    const unsigned g = on_cpu::lane() / 4, t = on_cpu::lane() % 4;
    for (unsigned i = 0; i < 4; ++i)
        for (unsigned word = 0; word < 8; ++word)
            add(i, (unsigned)all[4 * g + word % 4][i / 2 + 2 * (word / 4)], (unsigned)all[4 * (2 * t + i % 2) + word % 4][4 + word / 4]);
}

DEVICE void mma_fp16(float c[4], const unsigned a[4], const unsigned b[2]) {
    mma_words(a, b, [c](unsigned i, unsigned x, unsigned y) {
        for (int shift = 0; shift < 32; shift += 16)
            c[i] += fp16_to_float((unsigned short)(x >> shift)) * fp16_to_float((unsigned short)(y >> shift));
    });
}

DEVICE void mma_int8(int c[4], const unsigned a[4], const unsigned b[2]) {
    mma_words(a, b, [c](unsigned i, unsigned x, unsigned y) {
        for (int shift = 0; shift < 32; shift += 8) c[i] += (int)(signed char)(x >> shift) * (int)(signed char)(y >> shift);
    });
}
#endif

#if __CUDA_ARCH__ >= 800
DEVICE void mma_bf16(float c[4], const unsigned a[4], const unsigned b[2]) {
    mma_words(a, b, [c](unsigned i, unsigned x, unsigned y) {
        for (int shift = 0; shift < 32; shift += 16) c[i] += __uint_as_float(x >> shift << 16) * __uint_as_float(y >> shift << 16);
    });
}

DEVICE void mma_tf32(float c[4], const unsigned a[4], const unsigned b[2]) {
    mma_words(a, b, [c](unsigned i, unsigned x, unsigned y) { c[i] += __uint_as_float(x & ~0x1fffu) * __uint_as_float(y & ~0x1fffu); });
}
#endif

#if __CUDA_ARCH__ == 700
template <bool A_BY_ROW, bool B_BY_ROW> DEVICE void mma_quad_pairs(float c[8], const unsigned a[2], const unsigned b[2]) {
    const uint64_t words[4] = {a[0], a[1], b[0], b[1]};
    const auto all = on_cpu::exchange(words, 4);
    const unsigned self = on_cpu::lane(), pair = self % 16 / 4 * 4, above = self < 16 ? 0 : 4;
    const auto element = [&](unsigned lane, unsigned first, unsigned i) {
        return fp16_to_float((unsigned short)(all[lane][first + i / 2] >> 16 * (i % 2)));
    };
    // The lane that holds index x of 0..7 on the side without elements: lane x % 4 of the quad pair, 16 up from 4 on.
    const auto holder = [pair](unsigned x) { return pair + x % 4 + (x >= 4 ? 16 : 0); };
    for (unsigned i = 0; i < 8; ++i) {
        const unsigned row = (self & 1) + (i & 2) + above, column = (i & 4) + (self & 2) + (i & 1);
        for (unsigned k = 0; k < 4; ++k) {
            const float x = A_BY_ROW ? element(holder(row), 0, k) : element(pair + k + (row >= 4 ? 16 : 0), 0, row % 4);
            const float y = B_BY_ROW ? element(pair + k + (column >= 4 ? 16 : 0), 2, column % 4) : element(holder(column), 2, k);
            c[i] += x * y;
        }
    }
}
#endif

// ---- Launching: parameters as the CUDA driver takes them, an address for each argument.

namespace on_cpu {

template <class... P, size_t... I>
static bool bind(void (*kernel)(P...), void** arguments, const size_t* sizes, std::index_sequence<I...>) {
    const size_t wanted[] = {sizeof(P)...};
    for (size_t i = 0; i < sizeof...(P); ++i)
        if (sizes[i] != wanted[i]) return false;
    static std::tuple<void (*)(P...), void**> call;
    call = std::make_tuple(kernel, arguments);
    body = [] { std::get<0>(call)(*(P*)std::get<1>(call)[I]...); };
    return true;
}

static void outside(int) {
    problem = "memory outside of the arrays was read or written";
    setcontext(&host);
}

// What went wrong, or null.
template <class... P>
static const char* launch(void (*kernel)(P...), unsigned blocks, unsigned threads, size_t shared, int order, void** arguments,
                          const size_t* sizes, size_t count) {
    if (count != sizeof...(P)) return "another number of arguments than parameters";
    if (!bind(kernel, arguments, sizes, std::index_sequence_for<P...>())) return "an argument of another size than its parameter";
    if (shared > SHARED_BYTES - 128) return "more shared memory than there is";
    struct sigaction catching, before_segv, before_bus;
    memset(&catching, 0, sizeof catching);
    catching.sa_handler = outside;
    sigaction(SIGSEGV, &catching, &before_segv);
    sigaction(SIGBUS, &catching, &before_bus);
    problem = nullptr;
    step = order;
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    fibers = std::vector<Fiber>(threads);
    slots = std::vector<Slots>((threads + WARP - 1) / WARP);
    for (unsigned block = 0; block < blocks && !problem; ++block) {
        blockIdx = {block, 0, 0};
        memset(shared_memory, POISON, sizeof shared_memory);
        warp_barriers.assign((threads + WARP - 1) / WARP, Barrier());
        block_barrier = Barrier();
        alive = threads;
        idle_switches = 0;
        for (Fiber& fiber : fibers) {
            fiber.done = false;
            fiber.copies.clear();
            fiber.groups.clear();
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = &host;
            makecontext(&fiber.context, run_fiber, 0);
        }
        threadIdx = {order > 0 ? 0 : threads - 1, 0, 0};
        current = threadIdx.x;
        swapcontext(&host, &fibers[current].context);
        for (size_t i = shared; i < sizeof shared_memory && !problem; ++i)
            if (shared_memory[i] != POISON) problem = "shared memory written beyond what was asked for";
    }
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
    return problem;
}

}  // namespace on_cpu
