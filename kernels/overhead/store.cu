// One number to one place: the least that proves a kernel ran.
extern "C" __global__ void store(float* place, float value) { *place = value; }
