// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A stage's signed word on its rows so far. Mirrors `protocol/receipts.py`; `test/vectors` holds both to it.
library CheckpointLib {
    /// @param epoch the session's fencing epoch
    /// @param firstPosition the first position that the rows out begin at; `count` of them
    /// @param rootIn over the rows in from position 0
    /// @param previous struct hash of the session's checkpoint before, or zero
    /// @param upstream struct hash of the checkpoint by the stage before that the rows in are bound to, or zero
    struct Checkpoint {
        bytes32 jobId;
        address provider;
        uint64 epoch;
        uint16 firstLayer;
        uint16 endLayer;
        uint32 firstPosition;
        uint32 count;
        bytes32 rootIn;
        bytes32 rootOut;
        bytes32 previous;
        bytes32 upstream;
    }

    bytes32 internal constant TYPEHASH = keccak256(
        "Checkpoint(bytes32 jobId,address provider,uint64 epoch,uint16 firstLayer,uint16 endLayer,uint32 firstPosition,uint32 count,bytes32 rootIn,bytes32 rootOut,bytes32 previous,bytes32 upstream)"
    );

    /// @notice EIP-712 struct hash. All members are static, so their ABI encoding is the concatenation that EIP-712 asks for.
    function structHash(Checkpoint memory point) internal pure returns (bytes32) {
        return keccak256(bytes.concat(TYPEHASH, abi.encode(point)));
    }

    /// @notice Whether both speak of the same rows of one session, by position: then their roots have to agree.
    function samePlace(Checkpoint memory a, Checkpoint memory b) internal pure returns (bool) {
        bool session = a.jobId == b.jobId && a.provider == b.provider && a.epoch == b.epoch;
        return
            session && a.firstLayer == b.firstLayer && a.endLayer == b.endLayer && a.firstPosition == b.firstPosition && a.count == b.count;
    }
}
