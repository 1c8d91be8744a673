import { existsSync } from 'node:fs'
import { Resvg } from '@resvg/resvg-js'
import jsQR from 'jsqr'
import { type Browser, chromium, type Locator } from 'playwright-core'

/** Debian's browser, or the one that CHROMIUM names; null when the machine has none. */
export const chromiumPath: string | null =
  [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
    (path) => path !== undefined && existsSync(path),
  ) ?? null

export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath ?? '',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
}

/** The text of the QR code that is on the screen at that place, as a camera would read it: out of a picture of it. */
export async function readQr(place: Locator): Promise<string> {
  const png = await place.screenshot({ type: 'png' })
  const { width, height } = (await place.boundingBox()) ?? { width: 0, height: 0 }
  const href = `data:image/png;base64,${png.toString('base64')}`
  const picture = new Resvg(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><image href="${href}" width="${width}" height="${height}"/></svg>`,
  ).render()
  const found = jsQR.default(new Uint8ClampedArray(picture.pixels), picture.width, picture.height)
  if (found === null) throw new Error('there is no readable QR code on the screen')
  return found.data
}
