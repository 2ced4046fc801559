// CUDA's words for a C++ compiler, so that kernels run on a CPU exactly as they are written.
//
// Each thread of a block is a fiber; blocks run one after the other. A fiber runs until it waits for its warp (a shuffle) or for its
// block, and the order in which fibers are resumed changes at every wait: a kernel that forgets to wait reads what is not there yet.
// A warp or block of which some wait while others wait elsewhere, or are gone, ends the launch with a sentence.

#include <csetjmp>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __noinline__
#define __launch_bounds__(...)
#define __shared__ static

using std::isfinite;
using std::log;
using std::sqrt;

struct Place {
    unsigned x, y, z;
};

static Place threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

enum State { RUNS, WAITS_FOR_WARP, WAITS_FOR_BLOCK, GONE };
constexpr int WARP_SIZE = 32, MOST_THREADS = 1024, STACK = 1 << 16;

struct Fiber {
    ucontext_t first;
    jmp_buf stopped;
    State state = GONE;
    bool started = false;
    unsigned shuffles = 0;
    std::unique_ptr<char[]> stack;
};

static std::vector<Fiber> fibers(MOST_THREADS);
static std::function<void()> kernel;
static ucontext_t scheduler_first;
static jmp_buf scheduler;
static unsigned turn = 1;
static unsigned char exchanged[2][MOST_THREADS][16];

struct Wrong {
    const char* why;
};

inline void wait(State state)
{
    Fiber& fiber = fibers[threadIdx.x];
    fiber.state = state;
    if (_setjmp(fiber.stopped) == 0)
        _longjmp(scheduler, 1);
}

inline void live()
{
    for (;;) {
        kernel();
        wait(GONE);
    }
}

inline void resume(unsigned thread)
{
    Fiber& fiber = fibers[thread];
    threadIdx = {thread, 0, 0};
    fiber.state = RUNS;
    if (_setjmp(scheduler) == 0) {
        if (fiber.started)
            _longjmp(fiber.stopped, 1);
        fiber.started = true;
        fiber.stack = std::make_unique<char[]>(STACK);
        getcontext(&fiber.first);
        fiber.first.uc_stack.ss_sp = fiber.stack.get();
        fiber.first.uc_stack.ss_size = STACK;
        fiber.first.uc_link = nullptr;
        makecontext(&fiber.first, live, 0);
        setcontext(&fiber.first);
    }
}

// Until all lanes of a warp wait for the block or are gone.
inline State run_warp(unsigned warp)
{
    for (;;) {
        turn = turn * 1664525u + 1013904223u;
        const unsigned start = turn >> 16, step = (turn >> 24) | 1;
        unsigned counts[4] = {0, 0, 0, 0};
        for (unsigned i = 0; i < WARP_SIZE; ++i) {
            const unsigned lane = (start + i * step) % WARP_SIZE, thread = warp * WARP_SIZE + lane;
            if (fibers[thread].state != GONE)
                resume(thread);
            ++counts[fibers[thread].state];
        }
        if (counts[GONE] == WARP_SIZE)
            return GONE;
        if (counts[WAITS_FOR_BLOCK] == WARP_SIZE)
            return WAITS_FOR_BLOCK;
        if (counts[WAITS_FOR_WARP] != WARP_SIZE)
            throw Wrong{"some lanes of a warp wait where others do not"};
    }
}

inline void run_block()
{
    const unsigned warps = blockDim.x / WARP_SIZE;
    for (unsigned thread = 0; thread < blockDim.x; ++thread)
        fibers[thread].state = RUNS, fibers[thread].shuffles = 0;
    for (;;) {
        const unsigned start = turn >> 8, step = turn & 1 ? 1 : warps - 1;
        unsigned gone = 0;
        for (unsigned i = 0; i < warps; ++i)
            gone += run_warp((start + i * step) % warps) == GONE;
        if (gone == warps)
            return;
        if (gone > 0)
            throw Wrong{"some warps of a block wait where others are gone"};
    }
}

inline void run_grid(std::function<void()> body, unsigned blocks, unsigned threads)
{
    if (threads % WARP_SIZE || threads > MOST_THREADS)
        throw Wrong{"the size of a block is no multiple of 32 up to 1024"};
    turn = 1; // so that a launch can be repeated
    kernel = std::move(body);
    gridDim = {blocks, 1, 1};
    blockDim = {threads, 1, 1};
    for (unsigned block = 0; block < blocks; ++block) {
        blockIdx = {block, 0, 0};
        run_block();
    }
}

template <typename... Types, std::size_t... Each>
void call(void (*function)(Types...), void** given, std::index_sequence<Each...>)
{
    function(*static_cast<std::remove_const_t<Types>*>(given[Each])...);
}

// What is wrong with the kernel, or null.
template <typename... Types>
const char* start(void (*function)(Types...), void** given, unsigned blocks, unsigned threads)
{
    try {
        run_grid([=] { call(function, given, std::index_sequence_for<Types...>{}); }, blocks, threads);
        return nullptr;
    } catch (const Wrong& wrong) {
        for (Fiber& fiber : fibers)
            fiber.started = false;
        return wrong.why;
    }
}

} // namespace on_cpu

inline void __syncthreads()
{
    on_cpu::wait(on_cpu::WAITS_FOR_BLOCK);
}

template <typename Number>
Number __shfl_xor_sync(unsigned, Number mine, int mask)
{
    const unsigned thread = threadIdx.x, side = on_cpu::fibers[thread].shuffles++ % 2; // what was written is read before a third shuffle
    std::memcpy(on_cpu::exchanged[side][thread], &mine, sizeof mine);
    on_cpu::wait(on_cpu::WAITS_FOR_WARP);
    std::memcpy(&mine, on_cpu::exchanged[side][thread ^ mask], sizeof mine);
    return mine;
}

inline unsigned long long atomicMax(unsigned long long* place, unsigned long long value)
{
    const unsigned long long before = *place;
    *place = value > before ? value : before;
    return before;
}

inline unsigned __umulhi(unsigned first, unsigned second)
{
    return (unsigned)(((unsigned long long)first * second) >> 32);
}

inline unsigned __float_as_uint(float number)
{
    unsigned bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
}

inline float __uint_as_float(unsigned bits)
{
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

inline float __int_as_float(int bits)
{
    return __uint_as_float(bits);
}

template <typename Number>
void sincospi(Number turns, Number* sine, Number* cosine)
{
    const double angle = M_PI * turns;
    *sine = (Number)std::sin(angle);
    *cosine = (Number)std::cos(angle);
}
