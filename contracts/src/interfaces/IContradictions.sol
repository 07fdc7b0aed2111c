// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CheckpointLib} from "../libraries/CheckpointLib.sol";
import {ReceiptLib} from "../libraries/ReceiptLib.sol";

/// @title Contradictions
/// @notice A provider that signs two receipts of one number, or two checkpoints that give other roots for the same rows, is slashed at once: hashes
/// and a signature prove it, without bond or judges.
/// @dev Assumptions: what a provider's former operator key signed is still the provider's; an agent opens no session twice. The reporter notes
/// its proof beforehand, so that nobody can copy it out of the mempool. A receipt's number is one offence, however it is contradicted.
interface IContradictions {
    /// @notice The anchored receipt and its path.
    struct Anchored {
        ReceiptLib.Receipt receipt;
        uint64 batchId;
        bytes32[] proof;
    }

    error NotAnchored();
    error WindowOver(uint64 at);
    error NoContradiction();
    error NotNoted(bytes32 hash);
    error AlreadyProven(address provider, uint64 number);

    event ContradictionProven(
        uint64 sequence, address indexed provider, address indexed reporter, uint64 number, bytes32 signedHash, uint256 slashed
    );

    /// @notice First step: `keccak256(abi.encode(provider, number, reporter, salt))`.
    function note(bytes32 hash) external;

    /// @notice Second step, at least NOTE_DELAY later: `signed` bears an operator's signature and differs from the anchored receipt of its number.
    function prove(ReceiptLib.Receipt calldata signed, bytes calldata signature, Anchored calldata anchored, bytes32 salt) external;

    /// @notice Second step as well: `signed` bears an operator's signature and gives other roots than `named`, the checkpoint that the anchored receipt
    /// names, for the same rows. What one stage signs for its neighbour and what it is paid for have to be the same.
    function proveCheckpoints(
        CheckpointLib.Checkpoint calldata signed,
        bytes calldata signature,
        CheckpointLib.Checkpoint calldata named,
        Anchored calldata anchored,
        bytes32 salt
    ) external;
}
