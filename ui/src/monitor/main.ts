import { mount } from "svelte";
import { picture } from "../lib/live.svelte";
import "../styles/base.css";
import App from "./App.svelte";

picture.start();
mount(App, { target: document.getElementById("app")! });
