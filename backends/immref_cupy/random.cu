// Numbers that are a function of where they stand: nothing is stored, so a kernel can look at the same noise twice.
//
// Philox4x32-10 (Salmon et al. 2011) turns a key and a counter into four words. The counter holds the position in the row, the row,
// the number of the draw from its stream, and what the words are for.

#define FOR_NOISE 0u
#define FOR_SCALARS 1u // and on: two for each try

struct Four {
    unsigned word[4];
};

__device__ Four philox(Word key, unsigned position, unsigned row, unsigned draw, unsigned purpose)
{
    Four c = {{position, row, draw, purpose}};
    unsigned low = (unsigned)key, high = (unsigned)(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const unsigned upper0 = __umulhi(0xD2511F53u, c.word[0]), lower0 = 0xD2511F53u * c.word[0];
        const unsigned upper1 = __umulhi(0xCD9E8D57u, c.word[2]), lower1 = 0xCD9E8D57u * c.word[2];
        c = {{upper1 ^ c.word[1] ^ low, lower1, upper0 ^ c.word[3] ^ high, lower0}};
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    return c;
}

// In (0, 1]: of one word for float, of two for double.
__device__ float uniform(unsigned word)
{
    return word * 0x1p-32f + 0x1p-33f;
}

__device__ double uniform(unsigned first, unsigned second)
{
    return (((Word)first << 21) ^ (second >> 11)) * 0x1p-53 + 0x1p-54;
}

// Two normal numbers of two uniform ones (Box and Muller 1958).
template <typename Number>
__device__ void normals_of(Number first, Number second, Number (&normal)[2])
{
    Number sine, cosine;
    sincospi(2 * second, &sine, &cosine);
    const Number length = sqrt(-2 * log(first));
    normal[0] = length * cosine;
    normal[1] = length * sine;
}

// A counter's normal numbers in REAL: four in float, two in double.
#define A_COUNTER (16 / (int)sizeof(REAL))

__device__ void normals(const Four& words, float (&normal)[4])
{
    float pair[2];
    for (int half = 0; half < 2; ++half) {
        normals_of(uniform(words.word[2 * half]), uniform(words.word[2 * half + 1]), pair);
        normal[2 * half] = pair[0];
        normal[2 * half + 1] = pair[1];
    }
}

__device__ void normals(const Four& words, double (&normal)[2])
{
    normals_of(uniform(words.word[0], words.word[1]), uniform(words.word[2], words.word[3]), normal);
}

// The numbers base + t, base + T + t, ... of a row of noise, for thread t of T; base is a multiple of A_COUNTER T.
struct Drawn {
    Word key;
    unsigned row, draw;

    __device__ void look(long long base, long long, REAL (&seen)[A_COUNTER]) const
    {
        normals(philox(key, (unsigned)(base / A_COUNTER) + threadIdx.x, row, draw, FOR_NOISE), seen);
    }
};

// The same numbers of noise that lies in memory.
struct Given {
    const REAL* noise;

    __device__ void look(long long base, long long count, REAL (&seen)[A_COUNTER]) const
    {
        for (int part = 0; part < A_COUNTER; ++part) {
            const long long place = base + part * (long long)blockDim.x + threadIdx.x;
            seen[part] = place < count ? noise[place] : 0;
        }
    }
};

// a ~ N(0, 1) and s ~ chi2(df), the latter by Marsaglia and Tsang (2000), exactly.
struct Scalars {
    double a, s;
};

__device__ __noinline__ Scalars scalars_at(Word key, unsigned row, unsigned candidate, unsigned draw, double df)
{
    const double d = df / 2 - 1. / 3;
    Scalars drawn;
    for (unsigned purpose = FOR_SCALARS;; purpose += 2) {
        double normal[2];
        normals(philox(key, candidate, row, draw, purpose), normal);
        if (purpose == FOR_SCALARS)
            drawn.a = normal[1];
        const double z = normal[0], root = 1 + z / sqrt(9 * d), v = root * root * root;
        const Four words = philox(key, candidate, row, draw, purpose + 1);
        if (v > 0 && log(uniform(words.word[0], words.word[1])) < z * z / 2 + d * (1 - v + log(v))) {
            drawn.s = 2 * d * v;
            return drawn;
        }
    }
}

extern "C" __global__ void normal(REAL* noise, long long count, const Word* key, unsigned draw)
{
    const Drawn drawn = {*key, blockIdx.x, draw};
    for (long long base = 0; base < count; base += A_COUNTER * (long long)blockDim.x) {
        REAL seen[A_COUNTER];
        drawn.look(base, count, seen);
        for (int part = 0; part < A_COUNTER; ++part) {
            const long long place = base + part * (long long)blockDim.x + threadIdx.x;
            if (place < count)
                noise[blockIdx.x * count + place] = seen[part];
        }
    }
}

extern "C" __global__ void radial(double* a, double* s, long long candidates, const Word* key, unsigned draw, double df)
{
    for (long long candidate = threadIdx.x; candidate < candidates; candidate += blockDim.x) {
        const Scalars drawn = scalars_at(*key, blockIdx.x, (unsigned)candidate, draw, df);
        a[blockIdx.x * candidates + candidate] = drawn.a;
        s[blockIdx.x * candidates + candidate] = drawn.s;
    }
}
