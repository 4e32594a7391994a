"""The rendered demo line: boards, parts, light and the workspace made of them."""
