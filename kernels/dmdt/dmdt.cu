// dm-dt kernels. One block takes one work item: a run of earlier observations [i0, i1) of one object and key,
// against the later observations [a0, a1). Sums are integers (fixed-point where the values are not), so that no
// result depends on the order of threads; the host adds up items of one object. Compile with fma contraction
// off: then every expression rounds as in the Numba kernels.
//
// The same file compiles on the CPU through tests/kernels/cuda_shim/shim.hpp.

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;

#ifndef DMDT_DYNAMIC_SHARED
#define DMDT_DYNAMIC_SHARED(name) extern __shared__ u64 name[]
#endif

#define FRACTION_BITS 40
#define MASK ((i64(1) << FRACTION_BITS) - 1)
#define POSITION_BITS 16
#define CHUNK 1024  // so many packed values fit into 64 bits
#define NO_PAIR 0x7fffffffffffffffLL
#define ITEM 6  // numbers a work item: key, i0, i1, a0, a1, slot of its output
#define SUMS 8
#define LARGEST_BLOCK 256

struct Rules {
    int consecutive;
    double zero_within;
    double zero_cross;
};

// Number of edges at or below x, from a first guess that is never too high.
__device__ __forceinline__ i64 settle(i64 n, const double* __restrict__ edges, double x) {
    while (x >= edges[n]) ++n;  // the last edge is a NaN
    return n;
}

__device__ __forceinline__ i64 dt_cell(double dt, int shift, i64 first, i64 last, const i64* __restrict__ table,
                                       const double* __restrict__ edges) {
    i64 bucket = (__double_as_longlong(dt) >> shift) - first;
    bucket = bucket < 0 ? 0 : (bucket > last ? last : bucket);
    return settle(table[bucket], edges, dt);
}

__device__ __forceinline__ i64 dm_cell(double dm, double origin, double scale, i64 last,
                                       const i64* __restrict__ table, const double* __restrict__ edges) {
    double y = (dm - origin) * scale;
    y = fmin(fmax(y, 0.0), (double)last);
    return settle(table[(i64)y], edges, dm);
}

// Call visit(i, j, dt) for every pair of the item that falls to this thread, in the order of (i, j).
template <class Visit>
__device__ __forceinline__ void for_pairs(const double* __restrict__ time, const i64* item, bool within, Rules rules,
                                          Visit visit) {
    const i64 i0 = item[1], i1 = item[2], a1 = item[4];
    const double zero = within ? rules.zero_within : rules.zero_cross;
    if (within && rules.consecutive) {
        for (i64 i = i0 + threadIdx.x; i < i1; i += blockDim.x) {
            if (i + 1 < a1) {
                double dt = time[i + 1] - time[i];
                if (dt == 0.0) dt = zero;
                if (dt >= 0.0) visit(i, i + 1, dt);
            }
        }
        return;
    }
    // partners before the first row of the item are earlier than all its rows
    i64 low = item[3], high = a1;
    while (low < high) {
        i64 middle = (low + high) / 2;
        if (time[middle] < time[i0]) low = middle + 1;
        else high = middle;
    }
    const i64 n = a1 - low;
    if (n == 0) return;
    const i64 rows = blockDim.x / n, rest = blockDim.x % n;
    i64 i = i0 + threadIdx.x / n, k = threadIdx.x % n;
    while (i < i1) {
        const i64 j = low + k;
        double dt = time[j] - time[i];
        if (dt == 0.0) dt = zero;
        if (dt >= 0.0 && (!within || j > i)) visit(i, j, dt);
        i += rows;
        k += rest;
        if (k >= n) {
            k -= n;
            ++i;
        }
    }
}

// Count pairs in cells, [n_dt, n_dm + 2] with the guard cells of dm, and add them to out[slot].
template <class Count>
__device__ __forceinline__ void count_item(const double* time, const double* value, const i64* items,
                                           const i64* is_within, Rules rules, int shift, i64 first, i64 last,
                                           const i64* dt_table, const double* dt_edges, i64 n_dt, double origin,
                                           double scale, i64 dm_last, const i64* dm_table, const double* dm_edges,
                                           i64 stride, int in_shared, Count* out) {
    DMDT_DYNAMIC_SHARED(shared);
    u32* histogram = (u32*)shared;
    const i64* item = items + i64(blockIdx.x) * ITEM;
    Count* mine = out + item[5] * n_dt * stride;
    if (in_shared) {
        for (i64 c = threadIdx.x; c < n_dt * stride; c += blockDim.x) histogram[c] = 0;
        __syncthreads();
    }
    for_pairs(time, item, is_within[item[0]] != 0, rules, [&](i64 i, i64 j, double dt) {
        const i64 row = dt_cell(dt, shift, first, last, dt_table, dt_edges) - 1;
        if (row < 0 || row >= n_dt) return;
        const i64 column = dm_cell(value[j] - value[i], origin, scale, dm_last, dm_table, dm_edges);
        if (in_shared) atomicAdd(&histogram[row * stride + column], 1u);
        else atomicAdd(&mine[row * stride + column], Count(1));
    });
    if (in_shared) {
        __syncthreads();
        for (i64 c = threadIdx.x; c < n_dt * stride; c += blockDim.x)
            if (histogram[c]) atomicAdd(&mine[c], Count(histogram[c]));
    }
}

#define GRID_PARAMETERS                                                                                            \
    const double *__restrict__ time, const double *__restrict__ value, const i64 *__restrict__ items,              \
        const i64 *__restrict__ is_within, int consecutive, double zero_within, double zero_cross, int shift,       \
        i64 first, i64 last, const i64 *__restrict__ dt_table, const double *__restrict__ dt_edges, i64 n_dt,       \
        double origin, double scale, i64 dm_last, const i64 *__restrict__ dm_table,                                \
        const double *__restrict__ dm_edges, i64 stride, int in_shared

extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK) dmdt_count_maps(GRID_PARAMETERS, u32* out) {
    const Rules rules = {consecutive, zero_within, zero_cross};
    count_item(time, value, items, is_within, rules, shift, first, last, dt_table, dt_edges, n_dt, origin, scale,
               dm_last, dm_table, dm_edges, stride, in_shared, out);
}

extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK) dmdt_accumulate(GRID_PARAMETERS, u64* out) {
    const Rules rules = {consecutive, zero_within, zero_cross};
    count_item(time, value, items, is_within, rules, shift, first, last, dt_table, dt_edges, n_dt, origin, scale,
               dm_last, dm_table, dm_edges, stride, in_shared, out);
}

// The normal distribution at a position of the table, in fixed point: nodes and steps to the next node.
__device__ __forceinline__ i64 normal(double position, double end, const i64* __restrict__ table) {
    const i64 fixed = (i64)fmin(fmax(position, 0.0), end);
    const i64* node = table + 2 * (fixed >> POSITION_BITS);
    return node[0] + (node[1] * (fixed & ((1 << POSITION_BITS) - 1)) >> POSITION_BITS);
}

extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK, 4)
    dmdt_gaussian_maps(GRID_PARAMETERS, const double* __restrict__ variance, const i64* __restrict__ table,
                       double half, double steps_by_reach, u64* sums, u32* totals) {
    const Rules rules = {consecutive, zero_within, zero_cross};
    const i64* item = items + i64(blockIdx.x) * ITEM;
    const i64 n_dm = stride - 2;
    const double end = 2.0 * half;
    const i64 full = table[2 * ((i64)end >> POSITION_BITS)];
    for_pairs(time, item, is_within[item[0]] != 0, rules, [&](i64 i, i64 j, double dt) {
        const i64 row = dt_cell(dt, shift, first, last, dt_table, dt_edges) - 1;
        if (row < 0 || row >= n_dt) return;
        atomicAdd(&totals[item[5] * n_dt + row], 1u);
        u64* mine = sums + (item[5] * n_dt + row) * n_dm;
        const double dm = value[j] - value[i], spread = variance[j] + variance[i];
        const double slope = steps_by_reach / sqrt(spread);
        if (slope > 1.7976931348623157e308) {  // no error: one cell
            const i64 column = dm_cell(dm, origin, scale, dm_last, dm_table, dm_edges) - 1;
            if (column >= 0 && column < n_dm) atomicAdd(&mine[column], u64(full));
            return;
        }
        if (!(slope > 0.0)) return;  // infinite error: nothing anywhere
        i64 column = dm_cell(dm - half / slope, origin, scale, dm_last, dm_table, dm_edges) - 1;
        if (column < 0) column = 0;
        if (column > n_dm) return;
        i64 below = normal((dm_edges[column] - dm) * slope + half, end, table);
        while (column < n_dm && below < full) {
            ++column;
            const i64 above = normal((dm_edges[column] - dm) * slope + half, end, table);
            if (above != below) atomicAdd(&mine[column - 1], u64(above - below));
            below = above;
        }
    });
}

// Whether pair (q, i, j) is worse than another: lower value, then earlier i, then earlier j.
__device__ __forceinline__ bool worse(const i64* x, const i64* y) {
    if (x[0] != y[0]) return x[0] < y[0];
    if (x[2] != y[2]) return x[2] < y[2];
    return x[1] < y[1];
}

// Score one item: out[item] = high, low, pairs, penalised, ignored, lowest packed value, its j, its i.
extern "C" __global__ void __launch_bounds__(LARGEST_BLOCK)
    dmdt_score(const double* __restrict__ time, const double* __restrict__ value, const i64* __restrict__ items,
               const i64* __restrict__ is_within, int consecutive, double zero_within, double zero_cross,
               const i64* __restrict__ row_start, const i64* __restrict__ dt_shift, const i64* __restrict__ dt_first,
               const i64* __restrict__ dt_table_start, const i64* __restrict__ dt_table,
               const i64* __restrict__ edge_start, const double* __restrict__ dt_edges,
               const double* __restrict__ dm_origin, const double* __restrict__ dm_scale,
               const i64* __restrict__ dm_table_start, const i64* __restrict__ dm_table,
               const i64* __restrict__ slot_start, const double* __restrict__ dm_edges,
               const i64* __restrict__ packed, i64* __restrict__ out) {
    __shared__ i64 shared[SUMS * LARGEST_BLOCK];
    const Rules rules = {consecutive, zero_within, zero_cross};
    const i64* item = items + i64(blockIdx.x) * ITEM;
    const i64 key = item[0], n_rows = row_start[key + 1] - row_start[key], row0 = row_start[key] - 1;
    const int shift = (int)dt_shift[key];
    const i64 first = dt_first[key], last = dt_table_start[key + 1] - dt_table_start[key] - 1;
    const i64* table = dt_table + dt_table_start[key];
    const double* edges = dt_edges + edge_start[key];
    i64 high = 0, low = 0, partial = 0, pairs = 0, penalised = 0, ignored = 0;
    i64 worst[3] = {NO_PAIR, -1, -1};
    for_pairs(time, item, is_within[key] != 0, rules, [&](i64 i, i64 j, double dt) {
        const i64 row = dt_cell(dt, shift, first, last, table, edges);
        if (row == 0 || row > n_rows) {
            ++ignored;
            return;
        }
        const i64 r = row0 + row, begin = dm_table_start[r], slot = slot_start[r];
        const i64 n = dm_cell(value[j] - value[i], dm_origin[r], dm_scale[r], dm_table_start[r + 1] - begin - 1,
                              dm_table + begin, dm_edges + slot);
        const i64 q = packed[slot + n];
        partial += q;
        penalised += q & 1;
        if (++pairs % CHUNK == 0) {
            high += partial >> FRACTION_BITS;
            low += partial & MASK;
            partial = 0;
        }
        if (q < worst[0]) {
            worst[0] = q;
            worst[1] = j;
            worst[2] = i;
        }
    });
    i64* mine = shared + i64(threadIdx.x) * SUMS;
    mine[0] = high + (partial >> FRACTION_BITS);
    mine[1] = low + (partial & MASK);
    mine[2] = pairs;
    mine[3] = penalised;
    mine[4] = ignored;
    mine[5] = worst[0];
    mine[6] = worst[1];
    mine[7] = worst[2];
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) {
            const i64* other = shared + i64(threadIdx.x + step) * SUMS;
            for (int s = 0; s < 5; ++s) mine[s] += other[s];
            if (worse(other + 5, mine + 5))
                for (int s = 5; s < SUMS; ++s) mine[s] = other[s];
        }
    }
    if (threadIdx.x == 0) {
        i64* result = out + i64(blockIdx.x) * SUMS;
        for (int s = 0; s < SUMS; ++s) result[s] = mine[s];
    }
}
