import type { Browser, Page } from 'playwright-core'
import { phoneFor } from 'totp-kit/testing'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { leftOut } from '../left-out.ts'
import { chromiumPath, launchChromium, readQr } from './chromium.ts'
import { type Demo, enrolled, now, startDemo } from './demo-process.ts'

if (chromiumPath === null) {
  leftOut('no Chromium on this machine: the browser tests are LEFT OUT (install chromium, or set CHROMIUM)')
}

describe.skipIf(chromiumPath === null)('the page, in a browser', () => {
  let demo: Demo
  let browser: Browser
  let page: Page
  let faults: string[]

  beforeAll(async () => {
    demo = await startDemo({ TOTP_ISSUER: 'Küche & Söhne' })
    browser = await launchChromium()
  })
  afterAll(async () => {
    await browser.close()
    await demo.remove()
  })
  beforeEach(async () => {
    const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 320, height: 700 } })
    page = await context.newPage()
    page.setDefaultTimeout(10_000)
    faults = []
    page.on('pageerror', (error) => faults.push(error.message))
    page.on('console', (message) => {
      // A refusal is no fault, but the browser prints every 4xx.
      if (message.type() === 'error' && !message.text().includes('the server responded')) faults.push(message.text())
    })
    await page.goto(demo.url)
  })
  afterEach(async () => {
    expect(faults).toEqual([])
    expect(await page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')).toBe(true)
    await page.context().close()
  })

  const view = (name: string) => page.locator(`[data-view=${name}]`).waitFor()
  const click = (action: string) => page.locator(`[data-action=${action}]`).first().click()
  const status = () => page.locator('[data-status]').getAttribute('data-status')

  async function logIn(username: string, password: string): Promise<void> {
    await view('login')
    await page.fill('[name=username]', username)
    await page.fill('[name=password]', password)
    await click('login')
  }

  test('walks from registration to disabling, reading the secret out of the QR picture on the screen', async () => {
    await view('login')
    await click('go-register')
    await view('register')
    await page.fill('[name=username]', 'walker')
    await page.fill('[name=email]', 'walker@example.com')
    await page.fill('[name=password]', 'a long walk home')
    await click('register')
    await view('account')
    expect(await status()).toBe('off')

    await click('setup')
    await view('setup')
    const phone = phoneFor(await readQr(page.locator('[data-qr]')))
    expect(phone).toMatchObject({ issuer: 'Küche & Söhne', accountName: 'walker@example.com' })
    await page.fill('[name=code]', '000000')
    await click('confirm')
    await page.locator('[data-error]:not(:empty)').first().waitFor()
    const confirmedAt = now()
    await page.fill('[name=code]', phone.codeAt(confirmedAt))
    await click('confirm')
    await view('backup-codes')
    const codes = await page.locator('[data-backup-codes] li').allInnerTexts()
    expect(codes).toHaveLength(10)
    const [download] = await Promise.all([page.waitForEvent('download'), click('download-codes')])
    const saved = await (await download.createReadStream()).toArray()
    for (const code of codes) expect(Buffer.concat(saved).toString()).toContain(code.trim())
    await click('saved')
    await view('account')
    expect(await status()).toBe('on')

    await click('logout')
    await logIn('walker', 'a long walk home')
    await view('challenge')
    await page.fill('[name=code]', phone.codeAt(confirmedAt))
    await click('verify')
    await page.locator('[data-error]:not(:empty)').first().waitFor()
    const next = phone.codeAt(now() + 30)
    await page.fill('[name=code]', `${next.slice(0, 3)} ${next.slice(3)}`)
    await click('verify')
    await view('account')
    await click('open-vault')
    await page.getByText('third palm tree').waitFor()

    await click('logout')
    await logIn('walker', 'a long walk home')
    await view('challenge')
    await click('use-backup-code')
    await page.fill('[name=code]', (codes[0] ?? '').toLowerCase().replaceAll('-', ' '))
    await click('verify')
    await view('account')
    await click('rotate')
    await view('backup-codes')
    const rotated = await page.locator('[data-backup-codes] li').allInnerTexts()
    expect(rotated).toHaveLength(10)
    expect(rotated).not.toContain(codes[1])
    await click('saved')
    await view('account')

    await click('disable')
    await page.locator('dialog [data-action=confirm-disable]').click()
    await page.locator('[data-status=off]').waitFor()
  })

  test('asks for a code in place when the session is not fresh, and puts a wrong one into words', async () => {
    const user = await enrolled(demo, 'stepper')
    await logIn(user.username, user.password)
    await view('challenge')
    await page.fill('[name=code]', user.nextCode())
    await click('verify')
    await view('account')
    await page.route('**/api/totp/rotate_backup_codes/', async (route) => {
      // The page's token, replaced by one without a second factor: what it has after five minutes.
      const body = route.request().postData()
      const headers = { ...route.request().headers(), authorization: `Bearer ${user.access}` }
      await route.continue({ headers, ...(body === null ? {} : { postData: body }) })
    })

    await click('rotate')
    await page.locator('dialog [name=code]').waitFor()
    await page.locator('dialog [name=code]').fill('000000')
    await page.locator('dialog [data-action=step-up]').click()
    await page.locator('dialog [data-error]:not(:empty)').first().waitFor()
    await page.locator('dialog [data-action=use-backup-code]').click()
    await page.locator('dialog [name=code]').fill(user.backupCodes[1] ?? '')
    await page.locator('dialog [data-action=step-up]').click()
    await view('backup-codes')
  })

  test('a wrong password, and too many wrong codes, are told in words', async () => {
    const user = await enrolled(demo, 'guesser')
    await logIn(user.username, 'not the password')
    await page.locator('[data-error]:not(:empty)').first().waitFor()
    await logIn(user.username, user.password)
    await view('challenge')
    for (let i = 0; i < 6; i++) {
      await page.fill('[name=code]', `00000${i}`)
      await click('verify')
      await page.locator('[data-action=verify]:not([disabled]), [data-error]:not(:empty)').first().waitFor()
      await page.locator('[data-error]:not(:empty)').first().waitFor()
    }
    expect(await page.locator('[data-error]').first().textContent()).toMatch(/\d+ ?s/)
  })
})
