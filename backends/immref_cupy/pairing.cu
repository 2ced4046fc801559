// KNN among given candidates: a block for an image, a warp for each of its candidates in turn; nothing of their size is stored.

extern "C" __global__ void __launch_bounds__(1024)
nearest_candidate(const REAL* x, const REAL* noise, long long* index, REAL* before, REAL* after, long long count, long long candidates,
                  bool by_distance)
{
    const long long row = blockIdx.x;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    x += row * count;
    noise += row * candidates * count;
    Ranked mine = {INFINITE, candidates};
    REAL distance_of_mine = 0;
    for (long long candidate = warp; candidate < candidates; candidate += warps) {
        REAL square = 0, product = 0;
        for (long long place = lane; place < count; place += WARP) {
            const REAL difference = noise[candidate * count + place] - x[place];
            square += difference * difference;
            product += noise[candidate * count + place] * x[place];
        }
        for (int step = WARP / 2; step > 0; step /= 2) {
            square += __shfl_xor_sync(ALL_LANES, square, step);
            if (!by_distance)
                product += __shfl_xor_sync(ALL_LANES, product, step);
        }
        const REAL distance = sqrt(square), score = by_distance ? distance : -product;
        const Ranked next = {isfinite(score) ? (double)score : NOT_A_NUMBER, candidate}; // NaN and infinity are never passed over in silence
        if (next.before(mine)) {
            mine = next;
            distance_of_mine = distance;
        }
        if (candidate == 0 && lane == 0)
            before[row] = distance;
    }
    const Ranked winner = first_of_warps(mine);
    if (mine.index == winner.index && lane == 0) {
        index[row] = winner.index;
        after[row] = winner.score != winner.score ? (REAL)NOT_A_NUMBER : distance_of_mine;
    }
}
