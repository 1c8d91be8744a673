import type { App, View } from '../app.ts'
import { el, linkButton } from '../dom.ts'
import { field, form, passwordField } from '../form.ts'

export function loginView(app: App, knownUsername = ''): View {
  const username = field({
    name: 'username',
    label: 'Username',
    value: knownUsername,
    empty: 'Enter your username.',
    attributes: { autocomplete: 'username' },
  })
  const password = passwordField('Password', 'current-password')

  async function submit(): Promise<void> {
    const name = username.input.value.trim()
    await app.toNextStep(await app.api.logIn(name, password.input.value), name)
  }

  return {
    name: 'login',
    title: 'Log in',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Log in'),
        form({ action: 'login', label: 'Log in', busyLabel: 'Logging in…', fields: [username, password], submit }),
        el(
          'p',
          { class: 'elsewhere links' },
          linkButton('go-register', 'Create an account', app.toRegister),
          linkButton('go-recovery', 'Lost your phone?', app.toRecovery),
        ),
      ),
    ],
    focus: knownUsername === '' ? username.input : password.input,
  }
}
