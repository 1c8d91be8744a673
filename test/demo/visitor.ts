import type { Page } from 'playwright-core'
import { expect } from 'vitest'

/** What a person does on the page, and sees there. The page is asked for each time: every test has its own. */
export function visitor(pageOf: () => Page) {
  const view = (name: string) => pageOf().locator(`[data-view=${name}]`).waitFor()
  const click = (action: string) => pageOf().locator(`[data-action=${action}]`).first().click()
  const type = (code: string) => pageOf().fill('[name=code]', code)

  async function logIn(username: string, password: string): Promise<void> {
    await view('login')
    await pageOf().fill('[name=username]', username)
    await pageOf().fill('[name=password]', password)
    await click('login')
  }

  return {
    view,
    click,
    type,
    logIn,
    status: () => pageOf().locator('[data-status]').getAttribute('data-status'),
    error: (words: string | RegExp) => pageOf().locator('[data-error]').filter({ hasText: words }).waitFor(),
    notice: (words: string) => pageOf().locator('[data-notice]').filter({ hasText: words }).waitFor(),

    async register(username: string): Promise<string> {
      const password = `a long walk of ${username}`
      await view('login')
      await click('go-register')
      await view('register')
      await pageOf().fill('[name=username]', username)
      await pageOf().fill('[name=email]', `${username}@example.com`)
      await pageOf().fill('[name=password]', password)
      await click('register')
      return password
    },

    /** A code from the app: it is sent by itself. */
    async answer(code: string): Promise<void> {
      await view('challenge')
      await type(code)
    },

    async keepCodes(): Promise<string[]> {
      await view('backup-codes')
      const codes = await pageOf().locator('[data-backup-codes] li').allInnerTexts()
      await pageOf().check('[name=kept]')
      await click('saved')
      await view('account')
      return codes
    },

    /** The account, once it is loaded. */
    async account(): Promise<void> {
      await view('account')
      await pageOf().locator('[data-status]').waitFor()
    },

    /** Whether the page is wider than the window. */
    async fits(): Promise<void> {
      expect(await pageOf().evaluate('document.documentElement.scrollWidth <= window.innerWidth')).toBe(true)
    },
  }
}
