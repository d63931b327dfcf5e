#include "entries.hpp"
#include "dmdt.cu"

ENTRY(dmdt_count_maps)
ENTRY(dmdt_accumulate)
ENTRY(dmdt_gaussian_maps)
ENTRY(dmdt_score)
