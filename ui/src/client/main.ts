import { mount } from "svelte";
import { picture } from "../lib/live.svelte";
import "../styles/base.css";
import App from "./App.svelte";
import { mine } from "./mine.svelte";

picture.start();
mine.start();
mount(App, { target: document.getElementById("app")! });
