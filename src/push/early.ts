/**
 * Asks the engine for the image before the rest of the program is loaded: Docker takes 10 ms and more to answer with the containerd
 * image store, and the loading takes as long. What nobody asks for later is thrown away; what can't be asked so is asked later.
 * This is a bundle of its own, so that nothing else is read before: it hands over what it has asked.
 */
import { askEarly, type EarlyQuestions, INFO_PATH, imagePaths, socketOf } from '../image/engine/socket.ts';
import { findTool } from '../image/engine/tool.ts';
import { fileSource } from '../image/file-source.ts';

/** `image`, `engine` and `export` as the user gave them. Resolves when the questions are on their way; never rejects. */
export async function askEngineEarly(
  inputs: { image: string; engine: string; export: string },
  env: NodeJS.ProcessEnv,
): Promise<EarlyQuestions> {
  const image = inputs.image.trim();
  const paths = imagePaths(image);
  const tool = paths && inputs.engine !== 'podman' && !fileSource(image) ? findTool('docker', env) : undefined;
  const socket = tool && socketOf(tool, env);
  if (!paths || !socket) return new Map();
  // Where the engine's files are is only told by `info`, and only needed to read them.
  return askEarly(socket, inputs.export === 'save' ? [paths.inspect] : [paths.history, INFO_PATH]);
}
