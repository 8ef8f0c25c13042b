/** The page begins: theme first, so that nothing flashes, then the session. */

import '@fontsource-variable/inter/index.css';
import './views/base.css';
import './views/prose.css';
import { mount } from 'svelte';
import App from './views/App.svelte';
import { Kept } from './state/kept';
import { applyTheme } from './views/theme';

const kept = new Kept(window.localStorage);
applyTheme(kept.theme());

mount(App, { target: document.body, props: { kept } });
