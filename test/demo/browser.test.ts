import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import PostalMime from 'postal-mime'
import { authenticatorFor } from 'totp-kit/testing'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { reportSkipped } from '../skipped.ts'
import { chromiumPath, launchChromium, readQr } from './chromium.ts'
import { type Demo, enrolled, now, startDemo } from './demo-process.ts'
import { visitor } from './visitor.ts'

if (chromiumPath === null) {
  reportSkipped('no Chromium on this machine: the browser tests are LEFT OUT (install chromium, or set CHROMIUM)')
}

describe.skipIf(chromiumPath === null)('the page, in a browser', () => {
  let demo: Demo
  let browser: Browser
  let page: Page
  let faults: string[]

  beforeAll(async () => {
    demo = await startDemo({ TOTP_ISSUER: 'Küche & Söhne', OUTBOX_DIR: 'outbox' })
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
    await fits()
    await page.context().close()
  })

  const { view, click, type, logIn, answer, status, error, notice, account, fits, keepCodes } = visitor(() => page)
  /** The page with a session that has proved the password only. */
  async function useSession({ access, refresh }: { access: string; refresh: string }): Promise<void> {
    const tokens = JSON.stringify(JSON.stringify({ access, refresh }))
    await page.evaluate(`sessionStorage.setItem('totp-kit-demo-tokens', ${tokens})`)
    await page.reload()
    await account()
  }
  const keptTokens = () => page.evaluate<Record<string, string>>('({ ...localStorage })')

  /** The link in the newest mail to that address which has one; waits for a mail that `seen` does not hold. */
  function linkTo(address: string, seen: string[] = []): Promise<string> {
    return vi.waitFor(
      async () => {
        const folder = join(demo.folder, 'outbox')
        for (const file of (await readdir(folder)).sort().reverse()) {
          const mail = await PostalMime.parse(await readFile(join(folder, file)))
          const [link] = /http\S+#\S+/.exec(mail.text ?? '') ?? []
          if (link && !seen.includes(link) && mail.to?.some((to) => to.address === address)) return link
        }
        throw new Error(`no mail with a link to ${address}`)
      },
      { timeout: 10_000 },
    )
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
    const phone = authenticatorFor(await readQr(page.locator('[data-qr]')))
    expect(phone).toMatchObject({ issuer: 'Küche & Söhne', accountName: 'walker@example.com' })
    await type('000000')
    await error('Incorrect code')
    const confirmedAt = now()
    await type(phone.codeAt(confirmedAt))
    await view('backup-codes')
    const [download] = await Promise.all([page.waitForEvent('download'), click('download-codes')])
    const saved = Buffer.concat(await (await download.createReadStream()).toArray()).toString()
    const codes = await keepCodes()
    expect(codes).toHaveLength(10)
    for (const code of codes) expect(saved).toContain(code.trim())
    await account()
    expect(await status()).toBe('on')

    await click('logout')
    await logIn('walker', 'a long walk home')
    await answer(phone.codeAt(confirmedAt))
    await error('You already used this code')
    const next = phone.codeAt(now() + 30)
    await click('use-backup-code')
    await click('use-app-code')
    await type(`${next.slice(0, 3)} ${next.slice(3)}`)
    await view('account')
    await click('open-vault')
    await page.getByText('third palm tree').waitFor()

    await click('logout')
    await logIn('walker', 'a long walk home')
    await view('challenge')
    await click('use-backup-code')
    await type((codes[0] ?? '').toLowerCase().replaceAll('-', ' '))
    await click('verify')
    await view('account')
    await click('rotate')
    await click('confirm-rotate')
    const rotated = await keepCodes()
    expect(rotated).toHaveLength(10)
    expect(rotated).not.toContain(codes[1])

    await click('disable')
    await page.locator('dialog [data-action=confirm-disable]').click()
    await page.locator('[data-status=off]').waitFor()
  })

  test('asks for a code in place when the session is not fresh, and puts a wrong one into words', async () => {
    const user = await enrolled(demo, 'stepper')
    await useSession(user)
    await click('view-codes')
    const dialog = page.locator('dialog')
    await dialog.locator('[name=code]').fill('000000')
    await error('Incorrect code')
    await click('use-backup-code')
    await dialog.locator('[name=code]').fill(user.backupCodes[1] ?? '')
    await click('step-up')
    await view('backup-codes')
  })

  test('a wrong password is put into words', async () => {
    const user = await enrolled(demo, 'forgetful')
    await logIn(user.username, 'not the password')
    await error('Incorrect username or password')
  })

  test('says how far the clock of the phone is off, and accepts its next code then', async () => {
    const user = await enrolled(demo, 'clock')
    await logIn(user.username, user.password)
    const at = now()
    await answer(user.phone.codeAt(at + 90))
    await error(/phone’s clock is about (60|90) seconds fast/)
    await answer(user.phone.codeAt(at + 120))
    await view('account')
  })

  test('the last wrong code says how long to wait, and counts down', async () => {
    const user = await enrolled(demo, 'impatient')
    await logIn(user.username, user.password)
    for (let i = 0; i < 5; i++) {
      await answer(`00000${i}`)
      await page.locator(`[name=code][aria-invalid=true]`).waitFor()
      await error(i < 4 ? 'Incorrect code' : 'Too many incorrect codes')
    }
    await error(/You can try again in 2[0-8] seconds/)
  })

  test('a trusted device logs in without a code, with a new token each time, until it is removed', async () => {
    const user = await enrolled(demo, 'commuter')
    await logIn(user.username, user.password)
    await view('challenge')
    await page.check('[name=trust-device]')
    expect(await page.inputValue('[name=device-name]')).toMatch(/^Chrome on /)
    await page.fill('[name=device-name]', 'Kitchen laptop')
    // The choice is kept when another kind of code is asked for.
    await click('use-backup-code')
    await click('use-app-code')
    await answer(user.nextCode())
    await page.locator('[data-trusted-devices]').getByText('Kitchen laptop').waitFor()
    const first = await keptTokens()
    expect(Object.values(first)).toHaveLength(1)

    for (let i = 0; i < 2; i++) {
      await click('logout')
      await logIn(user.username, user.password)
      await view('account')
    }
    await page.locator('[data-trusted-devices]').waitFor()
    const second = await keptTokens()
    expect(Object.keys(second)).toEqual(Object.keys(first))
    expect(Object.values(second)).not.toEqual(Object.values(first))

    await click('open-vault')
    await page.locator('dialog [data-action=use-backup-code]').click()
    await page.locator('dialog [data-action=cancel]').click()

    await click('remove-device')
    await page.locator('dialog [name=code]').fill(user.backupCodes[0] ?? '')
    await click('step-up')
    await notice('no longer trusted')
    await account()
    expect(await page.locator('[data-trusted-devices]').count()).toBe(0)

    await click('logout')
    await logIn(user.username, user.password)
    await view('challenge')
    expect(await keptTokens()).toEqual({})
  })

  test('a new phone takes the place of the old one, under the name that it was given', async () => {
    const user = await enrolled(demo, 'upgrader')
    await logIn(user.username, user.password)
    await answer(user.nextCode())
    await click('new-phone')
    await page.fill('[name=name]', 'Phone of the year')
    await click('begin-new-phone')
    await view('setup')
    const phone = authenticatorFor(await readQr(page.locator('[data-qr]')))
    const confirmedAt = now()
    await type(phone.codeAt(confirmedAt))
    await click('confirm')
    await notice('“Authenticator app” no longer works')
    const names = page.locator('[data-authenticators] strong')
    await names.first().waitFor()
    expect(await names.allTextContents()).toEqual(['Phone of the year'])
    expect(await page.locator('[data-action=remove-authenticator]').count()).toBe(0)

    await click('logout')
    await logIn(user.username, user.password)
    await answer(user.phone.codeAt(now()))
    await error('Incorrect code')
    await answer(phone.codeAt(confirmedAt + 30))
    await view('account')
  })

  test('where two authenticators are allowed, a second one stands beside the first, and the first can go', async () => {
    const two = await startDemo({ TOTP_MAX_AUTHENTICATORS: '2' })
    try {
      const user = await enrolled(two, 'owner-of-two')
      await page.goto(two.url)
      await logIn(user.username, user.password)
      await answer(user.nextCode())
      await click('new-phone')
      await page.fill('[name=name]', 'Tablet')
      await click('begin-new-phone')
      await view('setup')
      const tablet = authenticatorFor(await readQr(page.locator('[data-qr]')))
      const confirmedAt = now()
      await type(tablet.codeAt(confirmedAt))
      await notice('The new authenticator is set up')
      const names = page.locator('[data-authenticators] strong')
      await names.nth(1).waitFor()
      expect((await names.allTextContents()).sort()).toEqual(['Authenticator app', 'Tablet'])

      await page.getByRole('button', { name: 'Remove Authenticator app' }).click()
      await click('confirm-remove')
      await notice('was removed')
      await names.first().waitFor()
      expect(await names.allTextContents()).toEqual(['Tablet'])
      await page.getByRole('button', { name: 'Rename Tablet' }).click()
      await page.fill('[name=name]', 'Old tablet')
      await click('confirm-rename')
      await names.getByText('Old tablet').waitFor()

      await click('logout')
      await logIn(user.username, user.password)
      await answer(user.phone.codeAt(now()))
      await error('Incorrect code')
      await click('use-backup-code')
      await answer(user.backupCodes[0] ?? '')
      await click('verify')
      // Loaded to the end, before the server goes.
      await names.first().waitFor()
    } finally {
      await two.remove()
    }
  })

  test('a lost phone: the link of the mail can be stopped, and the next one switches the second factor off', async () => {
    const user = await enrolled(demo, 'loser')
    const email = 'loser@example.com'
    async function askFor(address: string): Promise<void> {
      await view('recovery')
      await page.fill('[name=email]', address)
      await click('request-recovery')
      await page.locator('[data-recovery-requested]').filter({ hasText: address }).waitFor()
    }
    await logIn(user.username, user.password)
    await view('challenge')
    await click('go-recovery')
    await askFor('nobody@example.com')
    await click('go-login')
    await logIn(user.username, user.password)
    await view('challenge')
    await click('go-recovery')
    await askFor(email)

    const stopped = await linkTo(email)
    await page.goto(stopped.replace('#', '#cancel=1&'))
    await view('recovery-link')
    expect(page.url()).toBe(`${demo.url}/`)
    expect(await page.locator('[name=password]').count()).toBe(0)
    await click('cancel-recovery')
    await notice('Recovery was canceled')

    await page.goto(stopped)
    await page.fill('[name=password]', user.password)
    await click('confirm-recovery')
    await page.getByText('It was used or canceled').waitFor()
    expect(await page.locator('[name=password]').count()).toBe(0)
    await click('go-recovery')
    await askFor(email)

    await page.goto(await linkTo(email, [stopped]))
    await view('recovery-link')
    expect(page.url()).toBe(`${demo.url}/`)
    await page.fill('[name=password]', 'not the password')
    await click('confirm-recovery')
    await error('Incorrect password')
    await page.fill('[name=password]', user.password)
    await click('confirm-recovery')
    await notice('Two-factor authentication is off')
    await logIn(user.username, user.password)
    await view('account')
    expect(await status()).toBe('off')
  })

  test('a link with "This wasn’t me" on its page stops the recovery as well', async () => {
    const user = await enrolled(demo, 'watcher')
    await demo.call('POST', '/api/totp/recovery/', { body: { email: 'watcher@example.com' } })
    await page.goto(await linkTo('watcher@example.com'))
    await view('recovery-link')
    await page.getByText('This wasn’t me: cancel').click()
    await notice('Two-factor authentication stays on')
    await logIn(user.username, user.password)
    await view('challenge')
  })
})
