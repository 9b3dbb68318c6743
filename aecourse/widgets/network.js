// A forward pass for one input: PyTorch's layers as plain loops over row-major Float32Arrays.

function fromHalf(h) {
  const [exponent, fraction] = [(h >> 10) & 31, h & 1023];
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return h >> 15 ? -size : size;
}

// {arrays: {name: Float32Array}, networks: {name: [layer]}}; int8 has a float32 scale per row
function unpack(pack, bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [arrays, networks] = [{}, {}];
  for (const [name, { dtype, offset, size, rows }] of Object.entries(pack.arrays)) {
    const scale = (i) => view.getFloat32(offset + 4 * Math.floor((i * rows) / size), true);
    const read = {
      float32: (i) => view.getFloat32(offset + 4 * i, true),
      float16: (i) => fromHalf(view.getUint16(offset + 2 * i, true)),
      int8: (i) => scale(i) * view.getInt8(offset + 4 * rows + i),
    }[dtype];
    arrays[name] = Float32Array.from({ length: size }, (_, i) => read(i));
  }
  const fill = (layer) => ({ ...layer, weight: arrays[layer.weight], bias: arrays[layer.bias] });
  for (const name in pack.networks) networks[name] = pack.networks[name].map(fill);
  return { arrays, networks };
}

const ACTIVATIONS = {
  relu: (v) => Math.max(v, 0),
  leaky_relu: (v, slope) => (v > 0 ? v : slope * v),
  sigmoid: (v) => 1 / (1 + Math.exp(-v)),
};

function linear(x, { inputs, weight, bias }) {
  return bias.map((sum, o) => {
    for (let i = 0; i < inputs; i++) sum += weight[o * inputs + i] * x[i];
    return sum;
  });
}

// A kernel of k x k at this stride connects pixels of a small and a large image. A convolution
// reads the large one and writes the small one, a transposed convolution the other way round.
function convolve(x, layer) {
  const { inputs, outputs, small, large, kernel, stride, padding, weight, bias } = layer;
  const areas = [large[0] * large[1], small[0] * small[1]];
  const [areaIn, areaOut] = layer.transposed ? [areas[1], areas[0]] : areas;
  const y = new Float32Array(outputs * areaOut).map((_, i) => bias[Math.floor(i / areaOut)]);
  for (let o = 0; o < outputs; o++) {
    for (let n = 0; n < inputs; n++) {
      const first = (layer.transposed ? n * outputs + o : o * inputs + n) * kernel ** 2;
      for (let k = 0; k < kernel ** 2; k++) {
        const [w, up, left] = [weight[first + k], Math.floor(k / kernel), k % kernel];
        for (let s = 0; s < small[0] * small[1]; s++) {
          const row = Math.floor(s / small[1]) * stride - padding + up;
          const column = (s % small[1]) * stride - padding + left;
          if (row < 0 || row >= large[0] || column < 0 || column >= large[1]) continue;
          const l = row * large[1] + column;
          if (layer.transposed) y[o * areaOut + l] += w * x[n * areaIn + s];
          else y[o * areaOut + s] += w * x[n * areaIn + l];
        }
      }
    }
  }
  return y;
}

function forward(layers, x) {
  for (const layer of layers) {
    if (layer.op === "linear") x = linear(x, layer);
    else if (layer.op === "conv") x = convolve(x, layer);
    else x = x.map((v) => ACTIVATIONS[layer.op](v, layer.slope));
  }
  return x;
}
