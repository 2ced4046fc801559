// One block works on one row of numbers; what its threads found is put together here.
//
// REAL, the dtype of images and noise, is float or double. Thread t of T looks at the numbers t, T + t, 2 T + t, ... of a row, so
// neighbouring threads read neighbouring numbers whatever the row's alignment.

#define WARP 32
#define ALL_LANES 0xffffffffu
#define MOST_WARPS 32
#define INFINITE __int_as_float(0x7f800000)
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

typedef unsigned long long Word;

// The sums of three numbers over the block, in every thread.
__device__ void add_over_block(double (&sums)[3])
{
    __shared__ double of_warp[MOST_WARPS][3];
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (int which = 0; which < 3; ++which)
        for (int step = WARP / 2; step > 0; step /= 2)
            sums[which] += __shfl_xor_sync(ALL_LANES, sums[which], step);
    if (lane == 0)
        for (int which = 0; which < 3; ++which)
            of_warp[warp][which] = sums[which];
    __syncthreads();
    for (int which = 0; which < 3; ++which) {
        sums[which] = 0;
        for (int other = 0; other < blockDim.x / WARP; ++other)
            sums[which] += of_warp[other][which];
    }
    __syncthreads();
}

// A candidate and its score, the lower the better. NaN comes before all numbers, so that it is never passed over; of equals the first.
struct Ranked {
    double score;
    long long index;

    __device__ bool before(const Ranked& other) const
    {
        const bool lost = score != score, other_lost = other.score != other.score;
        if (lost || other_lost)
            return lost && (!other_lost || index < other.index);
        return score < other.score || (score == other.score && index < other.index);
    }
};

// The first of what the warps found, in every thread; all lanes of a warp hand in the same.
__device__ Ranked first_of_warps(Ranked mine)
{
    __shared__ Ranked of_warp[MOST_WARPS];
    if (threadIdx.x % WARP == 0)
        of_warp[threadIdx.x / WARP] = mine;
    __syncthreads();
    mine = of_warp[0];
    for (int other = 1; other < blockDim.x / WARP; ++other)
        if (of_warp[other].before(mine))
            mine = of_warp[other];
    __syncthreads();
    return mine;
}

// The first of what the threads found, in every thread.
__device__ Ranked first_of_block(Ranked mine)
{
    for (int step = WARP / 2; step > 0; step /= 2) {
        const Ranked other = {__shfl_xor_sync(ALL_LANES, mine.score, step), __shfl_xor_sync(ALL_LANES, mine.index, step)};
        if (other.before(mine))
            mine = other;
    }
    return first_of_warps(mine);
}
