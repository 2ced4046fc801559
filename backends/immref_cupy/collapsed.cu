// KNN at the price of one noise; the mathematics is told in immref/collapsed.py. A block works on one image.

// The scalars of further candidates: drawn where they are needed, or lying in memory.
struct DrawnScalars {
    Word key;
    unsigned row, draw;
    double df;

    __device__ Scalars of(long long candidate) const { return scalars_at(key, row, (unsigned)candidate, draw, df); }
};

struct GivenScalars {
    const double *a, *s;

    __device__ Scalars of(long long candidate) const { return {a[candidate], s[candidate]}; }
};

// The nearest of `noise` and the `more` candidates that `scalars` tell of, written to `nearest`.
template <typename Noise, typename Candidates>
__device__ void collapse_row(const REAL* x, const Noise& noise, const Candidates& scalars, REAL* nearest, long long* index, double* before,
                             double* after, long long count, long long more)
{
    const long long stride = A_COUNTER * (long long)blockDim.x;
    REAL xx = 0, xg = 0, gg = 0; // a thread adds some dozens of numbers, the block adds in double
    for (long long base = 0; base < count; base += stride) {
        REAL g[A_COUNTER];
        noise.look(base, count, g);
        for (int part = 0; part < A_COUNTER; ++part) {
            const long long place = base + part * (long long)blockDim.x + threadIdx.x;
            if (place < count) {
                xx += x[place] * x[place];
                xg += x[place] * g[part];
                gg += g[part] * g[part];
            }
        }
    }
    double sums[3] = {xx, xg, gg};
    add_over_block(sums);

    const bool null = sums[0] == 0; // x = 0 has no direction: every candidate lies across it
    const double length = sqrt(sums[0]), safe = null ? 1 : length;
    const double a0 = sums[1] / safe, s0 = sums[2] - a0 * a0;
    const double first = (a0 - length) * (a0 - length) + s0;
    Ranked mine = {first, 0};
    for (long long candidate = threadIdx.x; candidate < more; candidate += blockDim.x) {
        const Scalars other = scalars.of(candidate);
        const Ranked next = {(other.a - length) * (other.a - length) + other.s, candidate + 1};
        if (next.before(mine))
            mine = next;
    }
    const Ranked winner = first_of_block(mine);

    const bool lost = winner.score != winner.score, kept = winner.index == 0 && !lost;
    __shared__ REAL stretch, shift;
    if (threadIdx.x == 0) {
        double exact = lost ? NOT_A_NUMBER : 1, moved = 0;
        if (winner.index > 0 && !lost) {
            const Scalars chosen = scalars.of(winner.index - 1);
            exact = sqrt((null ? winner.score : chosen.s) / s0);
            moved = ((null ? 0 : chosen.a) - exact * a0) / safe;
        }
        stretch = (REAL)exact;
        shift = (REAL)moved;
        *index = winner.index;
        *before = sqrt(first);
        *after = sqrt(winner.score);
    }
    __syncthreads();
    for (long long base = 0; base < count; base += stride) {
        REAL g[A_COUNTER];
        noise.look(base, count, g);
        for (int part = 0; part < A_COUNTER; ++part) {
            const long long place = base + part * (long long)blockDim.x + threadIdx.x;
            if (place < count)
                nearest[place] = kept ? g[part] : stretch * g[part] + shift * x[place];
        }
    }
}

extern "C" __global__ void __launch_bounds__(512, 2)
collapse(const REAL* x, const REAL* noise, const double* a, const double* s, REAL* nearest, long long* index, double* before, double* after,
         long long count, long long more)
{
    const long long row = blockIdx.x;
    const Given given = {noise + row * count};
    const GivenScalars scalars = {a + row * more, s + row * more};
    collapse_row(x + row * count, given, scalars, nearest + row * count, index + row, before + row, after + row, count, more);
}

extern "C" __global__ void __launch_bounds__(512, 2)
draw_and_collapse(const REAL* x, REAL* nearest, long long* index, double* before, double* after, long long count, long long more,
                  const Word* key, unsigned draw)
{
    const long long row = blockIdx.x;
    const Drawn drawn = {*key, blockIdx.x, draw};
    const DrawnScalars scalars = {*key, blockIdx.x, draw + 1, count - 1.};
    collapse_row(x + row * count, drawn, scalars, nearest + row * count, index + row, before + row, after + row, count, more);
}
