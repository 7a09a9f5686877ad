// Operations of a transformer block in 16 bits, each in one kernel: as libtorch computes them in several, with the same
// roundings. CUDA's run-time compiler makes them when they are first needed; see fused.cpp.

typedef unsigned short Bits;

// The numbers of torch.float16.
struct Half {
    static __device__ float wide(Bits bits) {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
    static __device__ Bits narrow(float value) {
        Bits bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
        return bits;
    }
};

// The numbers of torch.bfloat16: the upper half of a float's bits, rounded to even.
struct BFloat16 {
    static __device__ float wide(Bits bits) { return __uint_as_float((unsigned)bits << 16); }
    static __device__ Bits narrow(float value) {
        unsigned bits = __float_as_uint(value);
        if (value != value) return 0x7fc0;
        return (Bits)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
};

// Eight numbers, which are read and written at once.
struct alignas(16) Eight {
    Bits bits[8];
};

__device__ float sum_of_warp(float value) {
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}

// A warp reads a row in eights; a lane has at most so many of them.
constexpr int MOST = 8;

// Eight sums, rounded.
template <class Number> __device__ Eight sums_of(Eight one, Eight other) {
    for (int number = 0; number < 8; ++number)
        one.bits[number] = Number::narrow(Number::wide(one.bits[number]) + Number::wide(other.bits[number]));
    return one;
}

// The layer norm of rows of `eights` times eight numbers; also the mean of each row, and one over its deviation. With `added`
// it is that of the sums, which are written, too.
template <class Number>
__device__ void norm(const Eight *x, const Eight *added, Eight *sums, const float *weight, const float *bias, Eight *y,
                     float *means, float *scales, long long rows, int eights, float epsilon) {
    long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * eights;
    y += row * eights;
    Eight kept[MOST];
    float sum = 0;
#pragma unroll
    for (int turn = 0; turn < MOST; ++turn) {
        int place = lane + 32 * turn;
        if (place >= eights) break;
        kept[turn] = x[place];
        if (added) sums[row * eights + place] = kept[turn] = sums_of<Number>(kept[turn], added[row * eights + place]);
        for (int number = 0; number < 8; ++number) sum += Number::wide(kept[turn].bits[number]);
    }
    float mean = sum_of_warp(sum) / (8 * eights), squares = 0;
#pragma unroll
    for (int turn = 0; turn < MOST; ++turn) {
        if (lane + 32 * turn >= eights) break;
        for (int number = 0; number < 8; ++number) {
            float apart = Number::wide(kept[turn].bits[number]) - mean;
            squares += apart * apart;
        }
    }
    float scale = rsqrtf(sum_of_warp(squares) / (8 * eights) + epsilon);
#pragma unroll
    for (int turn = 0; turn < MOST; ++turn) {
        int place = lane + 32 * turn;
        if (place >= eights) break;
        Eight written;
        for (int number = 0; number < 8; ++number) {
            int column = 8 * place + number;
            float apart = Number::wide(kept[turn].bits[number]) - mean;
            written.bits[number] = Number::narrow(weight[column] * (scale * apart) + bias[column]);
        }
        y[place] = written;
    }
    if (lane == 0) {
        means[row] = mean;
        scales[row] = scale;
    }
}

// The gradient of a layer norm's input; `beside` is what else the input has for a gradient, if it has.
template <class Number>
__device__ void norm_back(const Eight *x, const float *weight, const float *means, const float *scales, const Eight *gradient,
                          const Eight *beside, Eight *result, long long rows, int eights) {
    long long row = (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * eights;
    gradient += row * eights;
    result += row * eights;
    float mean = means[row], scale = scales[row], sum = 0, along = 0;
    Eight kept[MOST], given[MOST];
#pragma unroll
    for (int turn = 0; turn < MOST; ++turn) {
        int place = lane + 32 * turn;
        if (place >= eights) break;
        kept[turn] = x[place];
        given[turn] = gradient[place];
        for (int number = 0; number < 8; ++number) {
            float part = Number::wide(given[turn].bits[number]) * weight[8 * place + number];
            sum += part;
            along += part * (Number::wide(kept[turn].bits[number]) - mean) * scale;
        }
    }
    sum = sum_of_warp(sum);
    along = sum_of_warp(along);
    float width = 8 * eights;
#pragma unroll
    for (int turn = 0; turn < MOST; ++turn) {
        int place = lane + 32 * turn;
        if (place >= eights) break;
        Eight written;
        for (int number = 0; number < 8; ++number) {
            float part = Number::wide(given[turn].bits[number]) * weight[8 * place + number];
            float normalised = (Number::wide(kept[turn].bits[number]) - mean) * scale;
            written.bits[number] = Number::narrow((width * part - sum - normalised * along) * (scale / width));
        }
        result[place] = beside ? sums_of<Number>(written, beside[row * eights + place]) : written;
    }
}

// silu(1.702 x) / 1.702, rounded behind each of the three operations.
template <class Number> __device__ void activate(const Eight *x, Eight *y, long long eights, float factor, float inverse) {
    long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= eights) return;
    Eight read = x[place], written;
    for (int number = 0; number < 8; ++number) {
        float scaled = Number::wide(Number::narrow(Number::wide(read.bits[number]) * factor));
        float silu = Number::wide(Number::narrow(scaled / (1.0f + expf(-scaled))));
        written.bits[number] = Number::narrow(silu * inverse);
    }
    y[place] = written;
}

// The gradient of its input.
template <class Number>
__device__ void activate_back(const Eight *x, const Eight *gradient, Eight *result, long long eights, float factor,
                              float inverse) {
    long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= eights) return;
    Eight read = x[place], given = gradient[place], written;
    for (int number = 0; number < 8; ++number) {
        float scaled = Number::wide(Number::narrow(Number::wide(read.bits[number]) * factor));
        float sigmoid = 1.0f / (1.0f + expf(-scaled));
        float of_silu = Number::wide(Number::narrow(Number::wide(given.bits[number]) * inverse));
        float of_scaled = Number::wide(Number::narrow(of_silu * sigmoid * (1.0f + scaled * (1.0f - sigmoid))));
        written.bits[number] = Number::narrow(of_scaled * factor);
    }
    result[place] = written;
}

// Numbers of a head of attention, in every published CLIP.
constexpr int HEAD = 64;
// Words of two numbers, of a row of keys or values in the memory of a block; one more than needed, so that the rows of a warp's
// lanes lie in different banks.
constexpr int WORDS = HEAD / 2 + 1;

template <class Number> __device__ float lower(unsigned word) { return Number::wide((Bits)(word & 0xffffu)); }
template <class Number> __device__ float upper(unsigned word) { return Number::wide((Bits)(word >> 16)); }
template <class Number> __device__ unsigned word_of(float lower, float upper) {
    return (unsigned)Number::narrow(lower) | ((unsigned)Number::narrow(upper) << 16);
}

__device__ float greatest_of_warp(float value) {
    for (int apart = 16; apart > 0; apart /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, apart));
    return value;
}

// Where a block finds its class: a prompt is the `shared` first rows and then `length - shared` rows from `first + shared` on.
// Of the shared rows, which are the same for every class, the first class asks.
struct Prompt {
    int first, length, asking;
    __device__ Prompt(const long long *starts, int shared) {
        first = (int)starts[blockIdx.x];
        length = shared + (int)(starts[blockIdx.x + 1] - starts[blockIdx.x]);
        asking = blockIdx.x == 0 ? 0 : shared;
    }
    __device__ long long row(int place, int shared) const { return place < shared ? place : first + place; }
};

// Reads a head's part of the rows of a prompt, from `start` on, as words or as floats.
__device__ void read_words(const unsigned *from, long long stride, Prompt prompt, int shared, unsigned *to) {
    for (int item = threadIdx.x; item < prompt.length * (HEAD / 2); item += blockDim.x) {
        int place = item / (HEAD / 2), word = item % (HEAD / 2);
        to[place * WORDS + word] = from[prompt.row(place, shared) * stride + word];
    }
}

template <class Number>
__device__ void read_floats(const unsigned *from, long long stride, Prompt prompt, int shared, int start, float *to) {
    for (int item = threadIdx.x + start * (HEAD / 2); item < prompt.length * (HEAD / 2); item += blockDim.x) {
        int place = item / (HEAD / 2), word = item % (HEAD / 2);
        unsigned read = from[prompt.row(place, shared) * stride + word];
        to[place * HEAD + 2 * word] = lower<Number>(read);
        to[place * HEAD + 2 * word + 1] = upper<Number>(read);
    }
}

// What one row has in common with another that a lane looks at.
template <class Number> __device__ float product(const float *one, const unsigned *other) {
    float sum = 0;
    for (int word = 0; word < HEAD / 2; ++word) {
        unsigned pair = other[word];
        sum += one[2 * word] * lower<Number>(pair);
        sum += one[2 * word + 1] * upper<Number>(pair);
    }
    return sum;
}

// Minus infinity: the score of what a place does not see.
#define NOTHING __int_as_float(0xff800000)

// How much a place takes of each that it sees: a lane's are two, its own number and 32 more.
struct Shares {
    float near, far;
    __device__ float of(int place) const { return __shfl_sync(0xffffffffu, place < 32 ? near : far, place % 32); }
};

template <class Number> __device__ Shares shares(const float *query, const unsigned *keys, int place, int lane, float scale) {
    float near = lane <= place ? scale * product<Number>(query, keys + lane * WORDS) : NOTHING;
    float far = lane + 32 <= place ? scale * product<Number>(query, keys + (lane + 32) * WORDS) : NOTHING;
    float greatest = greatest_of_warp(fmaxf(near, far));
    near = expf(near - greatest);
    far = expf(far - greatest);
    float sum = sum_of_warp(near + far);
    return {near / sum, far / sum};
}

// The sum of rows, each times its share, in the two columns of a lane.
template <class Number>
__device__ void weigh(Shares shares, const unsigned *rows, int place, int lane, float &left, float &right) {
    left = right = 0;
    for (int seen = 0; seen <= place; ++seen) {
        float share = shares.of(seen);
        unsigned pair = rows[seen * WORDS + lane];
        left += share * lower<Number>(pair);
        right += share * upper<Number>(pair);
    }
}

// Causal attention of prompts whose first rows are shared: a block does a head of a class. `products` has the queries, keys
// and values of each row, `(groups, rows, 3 width)`; `starts` where each class's own rows begin among all own rows, and their
// number.
template <class Number>
__device__ void attend(const unsigned *products, const long long *starts, unsigned *attended, long long rows, int shared,
                       int width, float scale) {
    extern __shared__ float memory[];
    Prompt prompt(starts, shared);
    int lane = threadIdx.x % 32, words = width / 2, stride = 3 * words;
    products += blockIdx.z * rows * stride + blockIdx.y * (HEAD / 2);
    attended += blockIdx.z * rows * words + blockIdx.y * (HEAD / 2);
    float *queries = memory;
    unsigned *keys = (unsigned *)(queries + prompt.length * HEAD), *values = keys + prompt.length * WORDS;
    read_floats<Number>(products, stride, prompt, shared, prompt.asking, queries);
    read_words(products + words, stride, prompt, shared, keys);
    read_words(products + 2 * words, stride, prompt, shared, values);
    __syncthreads();
    for (int place = prompt.asking + threadIdx.x / 32; place < prompt.length; place += blockDim.x / 32) {
        Shares taken = shares<Number>(queries + place * HEAD, keys, place, lane, scale);
        float left, right;
        weigh<Number>(taken, values, place, lane, left, right);
        attended[prompt.row(place, shared) * words + lane] = word_of<Number>(left, right);
    }
}

// The gradient of `products`; of the keys and values of shared rows what each class adds, `(groups, classes, shared, 2 width)`.
template <class Number>
__device__ void attend_back(const unsigned *products, const long long *starts, const unsigned *gradient, unsigned *result,
                            float *of_shared, long long rows, int shared, int width, float scale) {
    extern __shared__ float memory[];
    Prompt prompt(starts, shared);
    int lane = threadIdx.x % 32, words = width / 2, stride = 3 * words, length = prompt.length;
    products += blockIdx.z * rows * stride + blockIdx.y * (HEAD / 2);
    result += blockIdx.z * rows * stride + blockIdx.y * (HEAD / 2);
    gradient += blockIdx.z * rows * words + blockIdx.y * (HEAD / 2);
    of_shared += ((long long)blockIdx.z * gridDim.x + blockIdx.x) * shared * 2 * width + blockIdx.y * HEAD;
    float *queries = memory, *given = queries + length * HEAD, *weights = given + length * HEAD, *slopes = weights + length * length;
    unsigned *keys = (unsigned *)(slopes + length * length), *values = keys + length * WORDS;
    read_floats<Number>(products, stride, prompt, shared, prompt.asking, queries);
    read_floats<Number>(gradient, words, prompt, shared, prompt.asking, given);
    read_words(products + words, stride, prompt, shared, keys);
    read_words(products + 2 * words, stride, prompt, shared, values);
    __syncthreads();
    for (int place = prompt.asking + threadIdx.x / 32; place < length; place += blockDim.x / 32) {
        Shares taken = shares<Number>(queries + place * HEAD, keys, place, lane, scale);
        float near = lane <= place ? product<Number>(given + place * HEAD, values + lane * WORDS) : 0;
        float far = lane + 32 <= place ? product<Number>(given + place * HEAD, values + (lane + 32) * WORDS) : 0;
        float mean = sum_of_warp(taken.near * near + taken.far * far);
        Shares slope = {scale * taken.near * (near - mean), scale * taken.far * (far - mean)};
        if (lane <= place) {
            weights[place * length + lane] = taken.near;
            slopes[place * length + lane] = slope.near;
        }
        if (lane + 32 <= place) {
            weights[place * length + lane + 32] = taken.far;
            slopes[place * length + lane + 32] = slope.far;
        }
        float left, right;
        weigh<Number>(slope, keys, place, lane, left, right);
        result[prompt.row(place, shared) * stride + lane] = word_of<Number>(left, right);
    }
    __syncthreads();
    for (int seen = threadIdx.x / 32; seen < length; seen += blockDim.x / 32) {
        float key[2] = {0, 0}, value[2] = {0, 0};
        for (int place = max(seen, prompt.asking); place < length; ++place) {
            float weight = weights[place * length + seen], slope = slopes[place * length + seen];
            for (int side = 0; side < 2; ++side) {
                key[side] += slope * queries[place * HEAD + 2 * lane + side];
                value[side] += weight * given[place * HEAD + 2 * lane + side];
            }
        }
        if (seen < shared) {
            float *row = of_shared + seen * 2 * width + 2 * lane;
            for (int side = 0; side < 2; ++side) {
                row[side] = key[side];
                row[width + side] = value[side];
            }
        } else {
            unsigned *row = result + prompt.row(seen, shared) * stride + lane;
            row[words] = word_of<Number>(key[0], key[1]);
            row[2 * words] = word_of<Number>(value[0], value[1]);
        }
    }
}

// NUMBER says in which numbers.
extern "C" {
__global__ void layer_norm(const Eight *x, const Eight *added, Eight *sums, const float *weight, const float *bias, Eight *y,
                           float *means, float *scales, long long rows, int eights, float epsilon) {
    norm<NUMBER>(x, added, sums, weight, bias, y, means, scales, rows, eights, epsilon);
}

__global__ void layer_norm_back(const Eight *x, const float *weight, const float *means, const float *scales,
                                const Eight *gradient, const Eight *beside, Eight *result, long long rows, int eights) {
    norm_back<NUMBER>(x, weight, means, scales, gradient, beside, result, rows, eights);
}

__global__ void quick_gelu(const Eight *x, Eight *y, long long eights, float factor, float inverse) {
    activate<NUMBER>(x, y, eights, factor, inverse);
}

__global__ void quick_gelu_back(const Eight *x, const Eight *gradient, Eight *result, long long eights, float factor,
                                float inverse) {
    activate_back<NUMBER>(x, gradient, result, eights, factor, inverse);
}

__global__ void class_attention(const unsigned *products, const long long *starts, unsigned *attended, long long rows,
                                int shared, int width, float scale) {
    attend<NUMBER>(products, starts, attended, rows, shared, width, scale);
}

__global__ void class_attention_back(const unsigned *products, const long long *starts, const unsigned *gradient,
                                     unsigned *result, float *of_shared, long long rows, int shared, int width, float scale) {
    attend_back<NUMBER>(products, starts, gradient, result, of_shared, rows, shared, width, scale);
}
}
