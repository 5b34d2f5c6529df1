"""The real chatglm.cpp and llama-server: built from source, driven, recorded. Not part of the ordinary tests."""
