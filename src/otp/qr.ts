import encodeQR from 'qr'

/** Light modules around the picture. ISO/IEC 18004 asks for four; phones miss codes with less. */
const QUIET_ZONE = 4

/**
 * A QR code of `text` at level M as an SVG picture that scales to its box: black on its own white ground, so that it
 * is readable in dark mode too. One stroked path of horizontal runs keeps it near 3 kB.
 */
export function qrSvg(text: string): string {
  const modules = encodeQR(text, 'raw', { ecc: 'medium', border: QUIET_ZONE })
  const size = modules.length
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size} ${size}" shape-rendering="crispEdges" role="img">` +
    `<title>QR code</title><path fill="#fff" d="M0 0h${size}v${size}H0z"/>` +
    `<path stroke="#000" d="M0 .5${runs(modules)}"/></svg>`
  )
}

/** Relative moves and strokes of one module's height, from (0, 0.5). */
function runs(modules: boolean[][]): string {
  let path = ''
  let penX = 0
  let penY = 0
  modules.forEach((row, y) => {
    for (let x = row.indexOf(true); x !== -1; x = row.indexOf(true, x)) {
      const end = row.indexOf(false, x)
      path += `m${x - penX} ${y - penY}h${end - x}`
      penX = end
      penY = y
      x = end
    }
  })
  return path
}
