// A round of the Jacobi auction of immref/auction.py, in two launches: rows bid, then columns are awarded.
//
// A bid is one 64-bit word, the price above the row, so that one atomic maximum finds a column's highest bid; of equal bids the last row's.

// An unsigned number that orders as the float does.
__device__ unsigned ordered(float price)
{
    const unsigned bits = __float_as_uint(price);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float price_of(unsigned order)
{
    return __uint_as_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

// A warp for each row: one without a column offers for its best what makes it as good as the second best, plus eps.
extern "C" __global__ void bid(const float* gain, const float* price, const long long* taken, Word* highest, const float* eps, long long count)
{
    const long long row = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / WARP;
    const int lane = threadIdx.x % WARP;
    if (row >= count || taken[row] >= 0)
        return;
    float top = -INFINITE, second = -INFINITE;
    long long best = count;
    for (long long column = lane; column < count; column += WARP) {
        const float value = gain[row * count + column] - price[column];
        if (value > top) {
            second = top;
            top = value;
            best = column;
        } else if (value > second)
            second = value;
    }
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float other_top = __shfl_xor_sync(ALL_LANES, top, step), other_second = __shfl_xor_sync(ALL_LANES, second, step);
        const long long other_best = __shfl_xor_sync(ALL_LANES, best, step);
        if (other_top > top || (other_top == top && other_best < best)) {
            second = fmaxf(top, other_second);
            top = other_top;
            best = other_best;
        } else
            second = fmaxf(second, other_top);
    }
    if (lane == 0 && best < count) // none where all is NaN
        atomicMax(&highest[best], (Word)ordered(price[best] + (top - second) + *eps) << 32 | (Word)row);
}

// A thread for each column: it goes to its highest bid, and its former row is free.
extern "C" __global__ void award(float* price, long long* owner, long long* taken, Word* highest, long long count)
{
    const long long column = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (column >= count || highest[column] == 0)
        return;
    const long long row = highest[column] & 0xffffffffu;
    if (owner[column] >= 0)
        taken[owner[column]] = -1;
    owner[column] = row;
    taken[row] = column;
    price[column] = price_of(highest[column] >> 32);
    highest[column] = 0;
}
