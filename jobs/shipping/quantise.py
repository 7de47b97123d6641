"""`python -m jobs.shipping.quantise F16.gguf TARGET.gguf q4_k_m`, in llama.cpp's environment."""

import sys

# enum llama_ftype in llama.cpp's include/llama.h
FTYPES = {"q8_0": 7, "q3_k_m": 12, "q4_k_m": 15, "q5_k_m": 17}


def main(source: str, target: str, quantization: str) -> None:
    from cyllama.llama import llama_cpp

    settings = llama_cpp.LlamaModelQuantizeParams()
    settings.ftype = FTYPES[quantization]
    llama_cpp.model_quantize(source, target, settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
