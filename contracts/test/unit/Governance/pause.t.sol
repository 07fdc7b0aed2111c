// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract GovernancePause is Network {
    function test_pause__ends_by_itself__and_cannot_be_chained() public {
        bytes4 entry = escrow.deposit.selector;
        escrow.pause(entry);
        uint64 until = escrow.pausedUntil(entry);
        token.approve(address(escrow), 2);
        vm.expectRevert(abi.encodeWithSelector(Guarded.Paused.selector, entry, until));
        escrow.deposit(payer, 1);
        vm.expectRevert(abi.encodeWithSelector(Guarded.PausedRecently.selector, entry, until + 3 days));
        escrow.pause(entry);
        vm.warp(until);
        escrow.deposit(payer, 1);
        vm.expectRevert(abi.encodeWithSelector(Guarded.PausedRecently.selector, entry, until + 3 days));
        escrow.pause(entry);
        vm.warp(until + 3 days);
        escrow.pause(entry);
    }

    function test_pause__exits_challenges_and_verdicts__cannot_be() public {
        bytes4[5] memory exits = [
            escrow.withdraw.selector,
            escrow.startWithdrawal.selector,
            escrow.revokeLimit.selector,
            escrow.reclaim.selector,
            escrow.debit.selector
        ];
        for (uint256 i; i < exits.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Guarded.NotPausable.selector, exits[i]));
            escrow.pause(exits[i]);
        }
        bytes4[5] memory stakes = [
            staking.withdraw.selector,
            staking.beginUnbonding.selector,
            staking.undelegate.selector,
            staking.slash.selector,
            staking.freeze.selector
        ];
        for (uint256 i; i < stakes.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(Guarded.NotPausable.selector, stakes[i]));
            staking.pause(stakes[i]);
        }
        vm.expectRevert(abi.encodeWithSelector(Guarded.NotPausable.selector, verifiers.exit.selector));
        verifiers.pause(verifiers.exit.selector);
        vm.expectRevert(abi.encodeWithSelector(Guarded.NotPausable.selector, providers.withdrawOffer.selector));
        providers.pause(providers.withdrawOffer.selector);
        vm.expectRevert(abi.encodeWithSelector(Guarded.NotPausable.selector, models.setPayout.selector));
        models.pause(models.setPayout.selector);
    }

    function test_pause__by_another__reverts() public {
        bytes4 entry = escrow.deposit.selector;
        vm.prank(payer);
        vm.expectRevert();
        escrow.pause(entry);
    }

    function test_pause__every_entry__can_be() public {
        escrow.pause(escrow.depositWithPermit.selector);
        escrow.pause(escrow.setLimit.selector);
        escrow.pause(escrow.addBond.selector);
        staking.pause(staking.delegate.selector);
        providers.pause(providers.register.selector);
        providers.pause(providers.registerGpu.selector);
        providers.pause(providers.makeOffer.selector);
        models.pause(models.register.selector);
        vm.expectPartialRevert(Guarded.Paused.selector);
        escrow.depositWithPermit(1, 0, 0, 0, 0);
        vm.expectPartialRevert(Guarded.Paused.selector);
        escrow.setLimit(gateway, 1, 1, 1, new bytes32[](0));
        vm.expectPartialRevert(Guarded.Paused.selector);
        escrow.addBond(gateway, 1);
        vm.expectPartialRevert(Guarded.Paused.selector);
        staking.delegate(owner, 1 ether);
        vm.expectPartialRevert(Guarded.Paused.selector);
        providers.register(operator, "x", 0);
        vm.expectPartialRevert(Guarded.Paused.selector);
        providers.registerGpu(IProviderRegistry.Gpu("x", 1, 1, 1, 0));
        vm.expectPartialRevert(Guarded.Paused.selector);
        providers.makeOffer(_offer(0, 30));
        vm.expectPartialRevert(Guarded.Paused.selector);
        models.register(_registration(1));
    }
}
