// Which tile of C a block computes: tiles in columns of GROUP tile rows, so that blocks at work together share rows of A and columns of B
// in the second-level cache.

struct Tile { int row, column; };

DEVICE Tile tile_of(int block, int rows, int columns) {
    enum { GROUP = 8 };
    const int first = block / (GROUP * columns) * GROUP, height = rows - first < GROUP ? rows - first : GROUP;
    const int within = block % (GROUP * columns);
    return {first + within % height, within / height};
}
