// Enough of CUDA C++ to run a kernel file on the CPU: one std::thread per CUDA thread, blocks one after another.
#pragma once
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static

struct Index {
    unsigned x, y = 0, z = 0;
};
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static std::unique_ptr<std::barrier<>> shim_barrier;
static unsigned long long shim_shared[6144];  // 48 KB

#define DMDT_DYNAMIC_SHARED(name) unsigned long long* name = shim_shared

static std::vector<std::unique_ptr<std::barrier<>>> shim_warps;

inline void __syncthreads() { shim_barrier->arrive_and_wait(); }
inline void __syncwarp() { shim_warps[threadIdx.x / 32]->arrive_and_wait(); }

inline long long __double_as_longlong(double x) {
    long long bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline double __longlong_as_double(long long bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

template <class T>
inline T atomicAdd(T* address, T value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

template <class T>
inline T atomicMin(T* address, T value) {
    T old = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (value < old && !__atomic_compare_exchange_n(address, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

template <class T>
inline T atomicMax(T* address, T value) {
    T old = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (value > old && !__atomic_compare_exchange_n(address, &old, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

using std::exp;
using std::fabs;
using std::fma;
using std::fmax;
using std::fmin;
using std::sqrt;

template <class Kernel>
void shim_launch(unsigned blocks, unsigned threads, Kernel kernel) {
    blockDim = {threads};
    gridDim = {blocks};
    shim_barrier = std::make_unique<std::barrier<>>(threads);
    shim_warps.clear();
    for (unsigned t = 0; t < threads; t += 32)
        shim_warps.push_back(std::make_unique<std::barrier<>>(std::min(32u, threads - t)));
    std::vector<std::thread> all;
    for (unsigned t = 0; t < threads; ++t)
        all.emplace_back([=] {
            threadIdx = {t};
            for (unsigned b = 0; b < blocks; ++b) {
                blockIdx = {b};
                kernel();
                shim_barrier->arrive_and_wait();  // the shared memory of the next block is the same
            }
        });
    for (auto& thread : all) thread.join();
}
