// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "./Planted.sol";

abstract contract PlantsReveal is Planted {
    function test_reveal__after_the_verdict__calls_off_and_pays_the_finder() public {
        _note();
        _convict();
        plants.reveal(planted, SALT, _consent());
        assertEq(uint8(_statusOf(disputes.evidenceIdOf(planted))), uint8(IDisputes.Status.Cancelled));
        assertEq(token.balanceOf(judges[0]), BOUNTY);
        assertEq(disputes.owed(judges[0]), BOND - 100 ether);
        assertEq(staking.slashable(owner), STAKE);
        assertEq(staking.openDisputes(owner), 0);
        assertEq(plants.ledger(), 0);
        assertEq(plants.plant(plantHash).number, planted.receipt.number);
        _assertLedgers();
        vm.expectRevert(abi.encodeWithSelector(IPlants.AnotherReceipt.selector, plantHash));
        plants.withdraw(plantHash);
    }

    function test_reveal__before_the_verdict_or_after_an_acquittal__reverts() public {
        _note();
        (IDisputes.Claim memory claim, bytes32 evidenceId) = _disputed(10 ether);
        bytes memory consent = _consent();
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, 1, IDisputes.Status.Open));
        plants.reveal(claim, SALT, consent);
        _verdict(evidenceId, IDisputes.Outcome.Innocent);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.BadOutcome.selector, IDisputes.Outcome.Innocent));
        plants.reveal(claim, SALT, consent);
    }

    function test_reveal__of_another_salt_payer_or_batch__reverts() public {
        _note();
        _convict();
        bytes memory consent = _consent();
        vm.expectPartialRevert(IPlants.NotNoted.selector);
        plants.reveal(planted, "other", consent);
        consent[0] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IPlants.NoConsent.selector, payer));
        plants.reveal(planted, SALT, consent);
        consent[0] ^= 0x01;
        IDisputes.Claim memory other = planted;
        _anchor(_receipt(2, 1 ether));
        other.batchId = 1;
        vm.expectRevert(IPlants.NotAnchored.selector);
        plants.reveal(other, SALT, consent);
    }

    function test_reveal__noted_no_earlier_than_anchored__reverts() public {
        _joinAll();
        _convict();
        plantHash = plants.hashOf(SALT, owner, payer);
        token.approve(address(plants), BOUNTY);
        plants.note(plantHash);
        uint64 at = uint64(block.timestamp);
        bytes memory consent = _consent();
        vm.expectRevert(abi.encodeWithSelector(IPlants.NotedTooLate.selector, at, at));
        plants.reveal(planted, SALT, consent);
    }

    function test_reveal__again__for_the_same_receipt_alone() public {
        _note();
        _convict();
        plants.reveal(planted, SALT, _consent());
        // The same receipt disputed for another reason.
        _fund(judges[0], BOND);
        vm.startPrank(judges[0]);
        token.approve(address(disputes), BOND);
        disputes.open(planted.receipt, planted.batchId, new bytes32[](0), IDisputes.Kind.Withheld);
        vm.stopPrank();
        IDisputes.Claim memory again = planted;
        again.kind = IDisputes.Kind.Withheld;
        _verdict(disputes.evidenceIdOf(again), IDisputes.Outcome.Guilty);
        uint256 before = token.balanceOf(judges[0]);
        plants.reveal(again, SALT, _consent());
        assertEq(token.balanceOf(judges[0]), before);
        assertEq(staking.slashable(owner), STAKE);
        // Another job of the payer is no plant.
        (IDisputes.Claim memory next, bytes32 evidenceId) = _disputed(10 ether);
        _verdict(evidenceId, IDisputes.Outcome.Guilty);
        bytes memory consent = _consent();
        vm.expectRevert(abi.encodeWithSelector(IPlants.AnotherReceipt.selector, plantHash));
        plants.reveal(next, SALT, consent);
    }
}
