// Grid scan kernels. A grid point (season, scale, step) is filled where at least one data set has min_points rows
// in its window; the host lists the runs of filled steps, ordered by (object, scale, season, step), and that is
// the order of the workspace. Its entry of a point is the gain over the flat model, negative for a dip. Window
// edges are decided by the comparisons of seasons.py; compile with fma contraction off, so that t0 rounds alike.
//
// The host puts N_TEMPLATES and the function `templates` in front. The same file compiles on the CPU through
// tests/kernels/cuda_shim/shim.hpp.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

// Rounding, as in exact.py: values that close are equal, and what is that small is nothing.
#define TIE 1e-11
#define NOTHING 1e-12
#define NO_VARIANCE 1e-26

#define RUN 4        // numbers a run: season, scale, first step, place in the workspace
#define SUMS (2 + 3 * N_TEMPLATES)
#define WARP 32
#define LARGEST_BLOCK 256
#define GRID_BLOCK 128
#define BINS 256
#define NOWHERE 0x7fffffffffffffffLL

// Rows of the objects, of each season its pieces (one a data set: first row, row after the last) and grid.
struct Sky {
    const double *tau, *flux, *weight;
    const i64 *pieces, *season_piece;
    const double *base, *delta, *half, *teff;
    i64 n_seasons, min_points;
};

struct Gain {
    double value;  // negative for a dip
    int which;
    i64 n_window;
};

__device__ __forceinline__ double t0_of(const Sky& sky, i64 season, i64 scale, i64 step) {
    return sky.base[season] + (double)step * sky.delta[scale * sky.n_seasons + season];
}

// First row of [low, high) whose tau is beyond the edge, or at it where `at` is set.
__device__ __forceinline__ i64 first_row(const double* __restrict__ tau, i64 low, i64 high, double edge, bool at) {
    while (low < high) {
        const i64 middle = (low + high) / 2;
        if (at ? tau[middle] < edge : tau[middle] <= edge) low = middle + 1;
        else high = middle;
    }
    return low;
}

// a / b, rounded as the division is, from the rounded 1 / b (Markstein 1990, IBM J. Res. Dev. 34, 111).
__device__ __forceinline__ double quotient(double a, double b, double inverse) {
    const double q = a * inverse;
    return fma(fma(-q, b, a), inverse, q);
}

// Fit every template in the windows of the data sets about t0, as one lane of 1 or 32 that share the rows. All
// lanes return the same. C = Sxy - Sx Sy / Sw and V = Sxx - Sx^2 / Sw give the gain C^2 / V; x and y are counted
// from the middle row of the window, so that nothing large cancels.
__device__ __forceinline__ Gain fit(const Sky& sky, i64 season, i64 scale, double t0, int lane, int lanes,
                                    double* shared) {
    const double half = sky.half[scale], teff = sky.teff[scale], inverse = 1.0 / teff;
    double total[N_TEMPLATES], lean[N_TEMPLATES];
    for (int k = 0; k < N_TEMPLATES; ++k) total[k] = lean[k] = 0.0;
    i64 n_window = 0;
    for (i64 p = sky.season_piece[season]; p < sky.season_piece[season + 1]; ++p) {
        const i64 low = first_row(sky.tau, sky.pieces[2 * p], sky.pieces[2 * p + 1], t0 - half, false);
        const i64 high = first_row(sky.tau, low, sky.pieces[2 * p + 1], t0 + half, true);
        if (high - low < sky.min_points) continue;
        n_window += high - low;
        const i64 middle = low + (high - low) / 2;
        double x[N_TEMPLATES], x0[N_TEMPLATES], sums[SUMS];
        templates(quotient(sky.tau[middle] - t0, teff, inverse), x0);
        const double y0 = sky.flux[middle];
        for (int s = 0; s < SUMS; ++s) sums[s] = 0.0;
        for (i64 i = low + lane; i < high; i += lanes) {
            const double w = sky.weight[i], wy = w * (sky.flux[i] - y0);
            templates(quotient(sky.tau[i] - t0, teff, inverse), x);
            sums[0] += w;
            sums[1] += wy;
            for (int k = 0; k < N_TEMPLATES; ++k) {
                const double d = x[k] - x0[k], wd = w * d;
                sums[2 + 3 * k] += wd;
                sums[3 + 3 * k] += wd * d;
                sums[4 + 3 * k] += wy * d;
            }
        }
        if (lanes > 1) {
            for (int s = 0; s < SUMS; ++s) shared[s * WARP + lane] = sums[s];
            __syncwarp();
            for (int s = lane; s < SUMS; s += WARP) {
                double sum = 0.0;
                for (int j = 0; j < WARP; ++j) sum += shared[s * WARP + (j + lane) % WARP];
                shared[SUMS * WARP + s] = sum;
            }
            __syncwarp();
            for (int s = 0; s < SUMS; ++s) sums[s] = shared[SUMS * WARP + s];
            __syncwarp();
        }
        const double mean = 1.0 / sums[0];
        for (int k = 0; k < N_TEMPLATES; ++k) {
            const double sx = sums[2 + 3 * k], shift = sx * mean;
            const double v = sums[3 + 3 * k] - sx * shift, c = sums[4 + 3 * k] - sums[1] * shift;
            const double square = sums[3 + 3 * k] + x0[k] * (2.0 * sx + x0[k] * sums[0]);
            if (!(v > NO_VARIANCE * square)) continue;
            const double gain = c * c / v;
            total[k] += gain;
            lean[k] += c > 0.0 ? gain : -gain;
        }
    }
    Gain best = {0.0, 0, n_window};
    double value = -1.0;
    for (int k = 0; k < N_TEMPLATES; ++k)
        if (total[k] >= value * (1.0 - TIE)) {
            value = total[k];
            best.value = lean[k] > 0.0 ? value : -value;
            best.which = k;
        }
    if (!(value > NOTHING)) best.value = 0.0;
    return best;
}

// Fit the points of some runs: run which[j] has the points first[j] .. first[j + 1] - 1 of this launch. Each
// fills its place of value and run_of or, where `detailed`, of detail: template and rows in the windows.
extern "C" __global__ void __launch_bounds__(GRID_BLOCK)
    scan_grid(const double* __restrict__ tau, const double* __restrict__ flux, const double* __restrict__ weight,
              const i64* __restrict__ pieces, const i64* __restrict__ season_piece, const double* __restrict__ base,
              const double* __restrict__ delta, const double* __restrict__ half, const double* __restrict__ teff,
              i64 n_seasons, i64 min_points, const i64* __restrict__ runs, const i64* __restrict__ which,
              const i64* __restrict__ first, i64 n_runs, int lanes, double* __restrict__ value,
              int* __restrict__ run_of, i64* __restrict__ detail, int detailed) {
    __shared__ double shared[GRID_BLOCK / WARP * SUMS * (WARP + 1)];
    const Sky sky = {tau, flux, weight, pieces, season_piece, base, delta, half, teff, n_seasons, min_points};
    const int lane = threadIdx.x % lanes;
    const i64 stride = i64(gridDim.x) * blockDim.x / lanes;
    for (i64 point = (i64(blockIdx.x) * blockDim.x + threadIdx.x) / lanes; point < first[n_runs]; point += stride) {
        i64 low = 0, high = n_runs - 1;  // the last run that begins at or before the point
        while (low < high) {
            const i64 middle = (low + high + 1) / 2;
            if (first[middle] <= point) low = middle;
            else high = middle - 1;
        }
        const i64 r = which[low], k = point - first[low];
        const i64* run = runs + r * RUN;
        const Gain gain = fit(sky, run[0], run[1], t0_of(sky, run[0], run[1], run[2] + k), lane, lanes,
                              shared + threadIdx.x / WARP * SUMS * (WARP + 1));
        if (lane > 0) continue;
        if (detailed) {
            detail[2 * (run[3] + k)] = gain.which;
            detail[2 * (run[3] + k) + 1] = gain.n_window;
        } else {
            value[run[3] + k] = gain.value;
            run_of[run[3] + k] = (int)r;
        }
    }
}

// Median of the sizes that are not 0 in each part bounds[b] .. bounds[b + 1] - 1 of the workspace, one block a
// part, and their number. Exact: the bits of positive numbers ascend with them, and each round counts the numbers
// left in 256 bins of equal width and goes on with the bin that holds the middle one.
extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK)
    scan_median(const double* __restrict__ value, const i64* __restrict__ bounds, double* __restrict__ median,
                i64* __restrict__ count) {
    __shared__ u32 bins[BINS];
    __shared__ u64 least, most, above;
    __shared__ u32 number, upto;
    const i64 begin = bounds[blockIdx.x] + threadIdx.x, end = bounds[blockIdx.x + 1];
    if (threadIdx.x == 0) {
        least = above = ~u64(0);
        most = 0;
        number = upto = 0;
    }
    __syncthreads();
    u64 smallest = ~u64(0), largest = 0;
    u32 mine = 0;
    for (i64 i = begin; i < end; i += blockDim.x) {
        const u64 key = (u64)__double_as_longlong(fabs(value[i]));
        if (key == 0) continue;
        ++mine;
        if (key < smallest) smallest = key;
        if (key > largest) largest = key;
    }
    if (mine > 0) {
        atomicAdd(&number, mine);
        atomicMin(&least, smallest);
        atomicMax(&most, largest);
    }
    __syncthreads();
    const u32 n = number;
    if (threadIdx.x == 0) {
        count[blockIdx.x] = n;
        median[blockIdx.x] = 0.0;
    }
    if (n == 0) return;
    u32 rank = (n - 1) / 2;
    u64 low = least, high = most;
    while (low < high) {
        int shift = 0;
        while (((high - low) >> shift) >= BINS) ++shift;
        for (int b = threadIdx.x; b < BINS; b += blockDim.x) bins[b] = 0;
        __syncthreads();
        for (i64 i = begin; i < end; i += blockDim.x) {
            const u64 key = (u64)__double_as_longlong(fabs(value[i]));
            if (key >= low && key <= high) atomicAdd(&bins[(key - low) >> shift], 1u);
        }
        __syncthreads();
        int bin = 0;
        while (rank >= bins[bin]) rank -= bins[bin++];
        low += u64(bin) << shift;
        const u64 last = low + ((u64(1) << shift) - 1);
        if (last < high) high = last;
        __syncthreads();
    }
    mine = 0;
    smallest = ~u64(0);
    for (i64 i = begin; i < end; i += blockDim.x) {
        const u64 key = (u64)__double_as_longlong(fabs(value[i]));
        if (key == 0) continue;
        if (key <= low) ++mine;
        else if (key < smallest) smallest = key;
    }
    atomicAdd(&upto, mine);
    atomicMin(&above, smallest);
    __syncthreads();
    if (threadIdx.x == 0) {
        const double lower = __longlong_as_double((i64)low);
        const bool same = n % 2 == 1 || upto > n / 2;
        median[blockIdx.x] = same ? lower : (lower + __longlong_as_double((i64)above)) / 2.0;
    }
}

// The largest of the threads' numbers, for all of them.
__device__ __forceinline__ double largest_of(double mine, double* all) {
    all[threadIdx.x] = mine;
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step && all[threadIdx.x + step] > all[threadIdx.x]) all[threadIdx.x] = all[threadIdx.x + step];
    }
    __syncthreads();
    const double largest = all[0];
    __syncthreads();
    return largest;
}

// First place of a season whose number, by `size(value, scale)`, is the largest but for rounding; -1 if that is 0.
// Each thread has the largest of its own numbers: the few that reach the largest of all look for the place.
template <class Size>
__device__ __forceinline__ i64 place_of(double mine, double* all, u64* first, const i64* part, i64 n_scales,
                                        const double* value, Size size) {
    const double largest = largest_of(mine, all), enough = largest * (1.0 - TIE);
    if (threadIdx.x == 0) *first = NOWHERE;
    __syncthreads();
    if (largest > 0.0 && mine >= enough) {
        u64 place = NOWHERE;
        for (i64 s = 0; s < n_scales && place == NOWHERE; ++s)
            for (i64 i = part[2 * s] + threadIdx.x; i < part[2 * s + 1]; i += blockDim.x)
                if (size(value[i], s) >= enough) {
                    place = i;
                    break;
                }
        atomicMin(first, place);
    }
    __syncthreads();
    const u64 place = *first;
    __syncthreads();
    return place == NOWHERE ? -1 : (i64)place;
}

// Choose the points of one season, one block a season: k times the largest one, after which all within overlap *
// (sum of the two teff) of it are erased from the workspace, and behind those the best bump and the best dip by
// size times inverse_noise[object, scale]. Points are places in the workspace, -1 where there is none.
extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK)
    scan_peaks(double* value, const int* __restrict__ run_of, const i64* __restrict__ runs,
               const i64* __restrict__ parts, const i64* __restrict__ season_object, const double* __restrict__ base,
               const double* __restrict__ delta, const double* __restrict__ teff, i64 n_seasons, i64 n_scales,
               double overlap, const double* __restrict__ inverse_noise, i64 k, i64* __restrict__ places,
               double* __restrict__ values) {
    __shared__ double all[LARGEST_BLOCK];
    __shared__ u64 first;
    const i64 season = blockIdx.x;
    const i64* part = parts + 2 * n_scales * season;
    const double* own = inverse_noise + season_object[season] * n_scales;
    double highest = 0.0, bump = 0.0, dip = 0.0;
    for (i64 s = 0; s < n_scales; ++s)
        for (i64 i = part[2 * s] + threadIdx.x; i < part[2 * s + 1]; i += blockDim.x) {
            const double v = value[i], q = v * own[s];
            highest = fmax(highest, fabs(v));
            bump = fmax(bump, q);
            dip = fmax(dip, -q);
        }
    const auto above = [&](double v, i64 s) { return v * own[s]; };
    const auto below = [&](double v, i64 s) { return -v * own[s]; };
    const auto either = [](double v, i64) { return fabs(v); };
    i64* chosen_place = places + season * (k + 2);
    double* chosen_value = values + season * (k + 2);
    const auto note = [&](i64 r, i64 place) {
        if (threadIdx.x == 0) {
            chosen_place[r] = place;
            chosen_value[r] = place < 0 ? 0.0 : value[place];
        }
        __syncthreads();  // the number has been read before it is erased
    };
    note(k, place_of(bump, all, &first, part, n_scales, value, above));
    note(k + 1, place_of(dip, all, &first, part, n_scales, value, below));
    for (i64 round = 0; round < k; ++round) {
        const i64 place = place_of(highest, all, &first, part, n_scales, value, either);
        note(round, place);
        if (place < 0 || round + 1 == k) continue;
        const i64* chosen = runs + i64(run_of[place]) * RUN;
        const i64 scale = chosen[1];
        const double t0 = base[season] + (double)(chosen[2] + place - chosen[3]) * delta[scale * n_seasons + season];
        highest = 0.0;
        for (i64 s = 0; s < n_scales; ++s) {
            const double reach = overlap * (teff[s] + teff[scale]);
            for (i64 i = part[2 * s] + threadIdx.x; i < part[2 * s + 1]; i += blockDim.x) {
                const double a = fabs(value[i]);
                if (a == 0.0) continue;
                const i64* run = runs + i64(run_of[i]) * RUN;
                const double at = base[season] + (double)(run[2] + i - run[3]) * delta[s * n_seasons + season];
                if (fabs(at - t0) < reach) value[i] = 0.0;
                else highest = fmax(highest, a);
            }
        }
    }
}
