#include "entries.hpp"
#include "scan.cu"

ENTRY(scan_grid)
ENTRY(scan_median)
ENTRY(scan_peaks)
