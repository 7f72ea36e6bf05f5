"""One module per stage of dvc.yaml: read params, call the library, write the outputs."""

from ncn.code_at_start import note_code
from ncn.common.errors import explain_while_loading

explain_while_loading()
note_code()
