// `node unpack.cjs FROM TO`: a brotli file without its compression.
const fs = require('node:fs');
const zlib = require('node:zlib');
const { pipeline } = require('node:stream/promises');

const [from, to] = process.argv.slice(2);
pipeline(fs.createReadStream(from), zlib.createBrotliDecompress(), fs.createWriteStream(to)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
