const activations = {
  identity: a => a, relu: a => (a > 0 ? a : 0), leaky: a => (a > 0 ? a : 0.01 * a),
  elu: a => (a > 0 ? a : Math.expm1(a)), silu: a => a / (1 + Math.exp(-a)), tanh: Math.tanh,
  softplus: a => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a))), sigmoid: a => 1 / (1 + Math.exp(-a)),
};

function network(data) {
  const w = unpack(data.weights, data.bits);
  let at = 0;
  const layers = data.layers.map(({ rows, columns, act }) => {
    const layer = { rows, columns, f: activations[act], w: at, b: at + rows * columns };
    at = layer.b + rows;
    return layer;
  });
  return (x, from = 0, to = layers.length) => {
    for (const { rows, columns, f, w: start, b } of layers.slice(from, to)) {
      const y = new Float32Array(rows);
      for (let i = 0; i < rows; i++) {
        let sum = w[b + i];
        for (let j = 0, k = start + i * columns; j < columns; j++, k++) sum += w[k] * x[j];
        y[i] = f(sum);
      }
      x = y;
    }
    return x;
  };
}
