// Entry points for ctypes: every argument is a pointer or a 64-bit number, as in an array of slots.
#pragma once
#include "shim.hpp"

union Slot {
    void* p;
    long long i;
    double d;
};

template <class T>
T take(const Slot& slot) {
    if constexpr (std::is_pointer_v<T>) return static_cast<T>(slot.p);
    else if constexpr (std::is_floating_point_v<T>) return static_cast<T>(slot.d);
    else return static_cast<T>(slot.i);
}

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), const Slot* slots, unsigned blocks, unsigned threads, std::index_sequence<I...>) {
    shim_launch(blocks, threads, [=] { kernel(take<A>(slots[I])...); });
}

template <class... A>
void call_all(void (*kernel)(A...), const Slot* slots, unsigned blocks, unsigned threads) {
    call(kernel, slots, blocks, threads, std::index_sequence_for<A...>{});
}

#define ENTRY(name)                                                                       \
    extern "C" void shim_##name(unsigned blocks, unsigned threads, const Slot* slots) {   \
        call_all(name, slots, blocks, threads);                                           \
    }
