import type { App, View } from '../app.ts'
import { el } from '../dom.ts'
import { field, form } from '../form.ts'

export function loginView(app: App, knownUsername = ''): View {
  const username = field({
    name: 'username',
    label: 'User name',
    value: knownUsername,
    attributes: { autocomplete: 'username' },
  })
  const password = field({
    name: 'password',
    label: 'Password',
    type: 'password',
    attributes: { autocomplete: 'current-password' },
  })

  async function submit(): Promise<void> {
    const name = username.input.value.trim()
    const challenge = await app.api.logIn(name, password.input.value)
    if (challenge === null) app.toAccount()
    else app.toChallenge({ token: challenge, username: name })
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
          { class: 'elsewhere' },
          'No account yet? ',
          el(
            'button',
            { type: 'button', class: 'link', 'data-action': 'go-register', onclick: app.toRegister },
            'Register',
          ),
        ),
      ),
    ],
    focus: knownUsername === '' ? username.input : password.input,
  }
}
